"""Indexing of one shot with a known unit cell."""

from __future__ import annotations

from exafel.config.indexing import IndexingConfig
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import ReflectionTable
from exafel.stills.lattice import Lattice


def index_shot(spots: ReflectionTable, detector: Detector, beam: Beam, config: IndexingConfig) -> list[Lattice]:
    """Index the spots of one shot, and refine every lattice found.

    Parameters
    ----------
    spots
        Strong spots: ``xyzobs.px.value``, ``xyzobs.px.variance``, ``panel``, ``flags``, ``intensity.sum.value``.
    detector, beam
        Geometry of the shot; the beam's spectrum is used where it has one.
    config
        The known cell, and what makes a lattice acceptable.

    Returns
    -------
    list of Lattice
        In the order found, at most `config.max_lattices`; empty where the shot cannot be indexed.

    Raises
    ------
    ConfigError
        The configuration names no unit cell, or an unknown space group.
    """
    raise NotImplementedError
