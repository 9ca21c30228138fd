"""Frames in, tables out: images, .expt, .refl, MTZ, manifests, event records."""
