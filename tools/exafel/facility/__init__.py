"""Facilities: one model of a site, and what follows from it: launch lines, environments, profiles, rehearsals."""
