"""Real DIALS reads the NXmx files that we write, as we do."""

from __future__ import annotations

import hashlib
import subprocess

import hdf5plugin
import numpy as np
import pytest

from exafel.io.expt import read_expt
from exafel.io.geometry import Beam, Spectrum
from exafel.io.nxmx import NXmxSource
from exafel.io.nxmx_writer import NXmxWriter

pytestmark = pytest.mark.dials


@pytest.mark.parametrize(("n_panels", "compression"), [(1, "gzip"), (3, "none"), (3, "bitshuffle-lz4")])
def test_dxtbx_reads_frames_geometry_masks_and_wavelengths(
    models, tmp_path, ask_dxtbx, monkeypatch, n_panels, compression
):
    # Debian's HDF5 has no bitshuffle of its own, and takes that of hdf5plugin.
    monkeypatch.setenv("HDF5_PLUGIN_PATH", hdf5plugin.PLUGINS_PATH)
    detector = models.tilted_detector(n_panels)
    path = tmp_path / "made.h5"
    with NXmxWriter(path, detector, compression=compression) as writer:
        for number in range(3):
            writer.append(models.random_frame(detector, number), models.beam_with_spectrum(0.01 * number))
    theirs = ask_dxtbx(images={str(path): [0, 2]})[str(path)]
    source = NXmxSource(path)
    assert theirs["n"] == 3
    for frame in theirs["frames"]:
        number = frame["index"]
        beam = source.beam(number)
        assert frame["beam"]["wavelength"] == pytest.approx(beam.wavelength_angstrom, rel=1e-12)
        masks = source.mask(number) or [np.ones(panel.shape, bool) for panel in detector.panels]
        panels = source.detector(number).panels
        for k, (ours, panel) in enumerate(zip(panels, frame["panels"], strict=True)):
            np.testing.assert_allclose(ours.origin_mm, panel["origin"], rtol=0, atol=1e-9)
            np.testing.assert_allclose(ours.fast_axis, panel["fast"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(ours.slow_axis, panel["slow"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(ours.pixel_size_mm, panel["pixel_size"], rtol=1e-12)
            np.testing.assert_allclose([ours.mu_per_mm, ours.thickness_mm], panel["parallax"], rtol=1e-9)
            lab = ours.pixel_to_lab(np.array(panel["grid"]))
            np.testing.assert_allclose(lab, panel["lab"], rtol=0, atol=1e-6)
            np.testing.assert_allclose(detector[k].origin_mm, panel["origin"], rtol=0, atol=1e-9)
            data = source.frame(number)[k]
            assert hashlib.sha256(data.astype("<i4").tobytes()).hexdigest() == frame["pixels"][k]["sha256"]
            assert (ours.trusted_mask(data) & masks[k]).sum() == frame["pixels"][k]["good"]


@pytest.mark.data
@pytest.mark.slow
def test_dials_imports_a_written_detector_of_256_panels(shared_data, tmp_path, dials):
    detector = read_expt(shared_data / "geometry" / "jungfrau16m_like.expt")[0].detector
    spectrum = Spectrum(np.linspace(1.88, 1.90, 10), np.ones(10))
    path = tmp_path / "jungfrau.h5"
    with NXmxWriter(path, detector) as writer:
        writer.append([np.full(panel.shape, 3, np.int32) for panel in detector.panels], Beam(1.89, spectrum=spectrum))
    subprocess.run([dials / "dials.import", path], cwd=tmp_path, check=True, capture_output=True)
    imported = read_expt(tmp_path / "imported.expt")[0]
    assert imported.image.path == path
    for ours, panel in zip(detector.panels, imported.detector.panels, strict=True):
        np.testing.assert_allclose(panel.origin_mm, ours.origin_mm, rtol=0, atol=1e-9)
        np.testing.assert_allclose(panel.fast_axis, ours.fast_axis, rtol=0, atol=1e-12)
