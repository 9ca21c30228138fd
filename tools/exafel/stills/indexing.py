"""Indexing of one shot: search, refine, take the spots away, and look for the next lattice."""

from __future__ import annotations

import numpy as np

from exafel.arrays import BoolArray, FloatArray
from exafel.config.indexing import IndexingConfig
from exafel.io.crystal import CellParameters, cell_from_basis, space_group, space_group_of_hall
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import ReflectionTable
from exafel.stills.cell_symmetry import constrain_setting, reciprocal_metric, reference_setting
from exafel.stills.chance import chance_exponent
from exafel.stills.lattice import Lattice, build_lattice
from exafel.stills.misorientation import misorientation_deg
from exafel.stills.orientation_search import search_orientations
from exafel.stills.refinement import Refined, refine_lattice
from exafel.stills.setting import CellRestraint
from exafel.stills.spot_vectors import SpotVectors, spot_vectors
from exafel.stills.unknown_cell import find_unknown_lattice

_CANDIDATES = 40  # orientations from the search that are looked at
_REFINED = 6  # different ones among them that are refined
_ROUNDS_OF_CANDIDATES = 5  # of refinement, to choose among them
_CLEAR = 0.7  # a candidate that explains this fraction of the spots needs no rival
_SAME_DEG = 0.5  # candidates closer than this are one


def index_shot(spots: ReflectionTable, detector: Detector, beam: Beam, config: IndexingConfig) -> list[Lattice]:
    """Index the spots of one shot, and refine every lattice found.

    Parameters
    ----------
    spots
        Strong spots: ``xyzobs.px.value``, ``xyzobs.px.variance``, ``panel``, ``flags``, ``intensity.sum.value``.
    detector, beam
        Geometry of the shot; the beam's spectrum is used where it has one.
    config
        The known cell, and what makes a lattice acceptable. Without a cell, the first lattice is found from the spots
        alone, and further ones with its cell.

    Returns
    -------
    list of Lattice
        In the order found, at most `config.max_lattices`; empty where the shot cannot be indexed.

    Raises
    ------
    ConfigError
        The configuration names an unknown space group.
    """
    hall = str(space_group(config.space_group or "P1").hall)
    cell: CellParameters | None = config.unit_cell
    if len(spots) < config.min_spots:
        return []
    vectors = spot_vectors(spots, detector, beam, floor_px=config.refinement.centroid_error_px)
    free = np.ones(len(spots), dtype=np.bool_)
    lattices: list[Lattice] = []
    while len(lattices) < config.max_lattices and np.count_nonzero(free) >= config.min_spots:
        rows = np.flatnonzero(free)
        offered = vectors.select(rows)
        if cell is None:
            found, hall = _find_without_cell(offered, beam, config, hall)
        else:
            found = _find_lattice(offered, beam, config, cell, hall)
        if found is None:
            break
        cell = cell or cell_from_basis(np.asarray(np.linalg.inv(found.A)))
        lattices.append(build_lattice(found, rows, spots, detector, beam, hall, config.mosaicity))
        free[rows[found.rows[found.used]]] = False
    return lattices


def _find_without_cell(spots: SpotVectors, beam: Beam, config: IndexingConfig, hall: str) -> tuple[Refined | None, str]:
    found = find_unknown_lattice(spots, spots.select(search_spots(spots.rlp, config)), beam, config)
    if found is None or not _acceptable(found.refined, len(spots), config):
        return None, hall
    return found.refined, found.hall


def _find_lattice(
    spots: SpotVectors, beam: Beam, config: IndexingConfig, cell: CellParameters, hall: str
) -> Refined | None:
    reference = reference_setting(cell, hall)
    chosen = search_spots(spots.rlp, config)
    searched = spots.select(chosen)
    bases = search_orientations(
        searched.rlp, np.asarray(np.linalg.inv(reference)), hall, config.cell_tolerance, keep=_CANDIDATES
    )
    restraint = CellRestraint(reciprocal_metric(reference), config.cell_tolerance / 2)
    d_start = 1.0 / float(np.linalg.norm(searched.rlp, axis=1).max())
    best: Refined | None = None
    best_score = -1.0
    rough = config.refinement.model_copy(update={"max_macrocycles": _ROUNDS_OF_CANDIDATES})
    seen: list[FloatArray] = []
    tried = 0
    for basis in bases:
        start = constrain_setting(np.linalg.inv(basis), hall)
        if any(_same(start, other, hall) for other in seen):
            continue
        if tried == _REFINED:
            break
        tried += 1
        seen.append(start)
        refined = refine_lattice(
            start,
            hall,
            searched,
            beam,
            rough,
            hkl_tolerance=config.hkl_tolerance,
            restraint=restraint,
            d_min_start=2 * d_start,
        )
        if refined is None:
            continue
        seen.append(refined.A)
        score = chance_exponent(refined, len(searched), config.hkl_tolerance)
        if best is None or score > best_score:
            best, best_score = refined, score
        if best.n_used >= _CLEAR * len(searched) and best_score > config.min_chance_exponent:
            break
    if best is None:
        return None
    final = refine_lattice(
        best.A,
        hall,
        spots,
        beam,
        config.refinement,
        hkl_tolerance=config.hkl_tolerance,
        restraint=restraint,
        d_min_start=d_start,
    )
    if final is None or not _acceptable(final, len(spots), config):
        return None
    return final if _has_cell(final, cell, config.cell_tolerance) else None


def search_spots(rlp: FloatArray, config: IndexingConfig) -> BoolArray:
    """Choose the spots that the search uses: from low resolution on, to a number and to a resolution."""
    size = np.linalg.norm(rlp, axis=1)
    order = np.argsort(size, kind="stable")
    chosen = np.zeros(len(rlp), dtype=np.bool_)
    chosen[order[: config.max_search_spots]] = True
    fine = size > 1.0 / config.search_d_min_angstrom
    enough = np.count_nonzero(chosen & ~fine) >= config.min_spots
    return np.asarray(chosen & ~fine) if enough else chosen


def _same(first: FloatArray, second: FloatArray, hall: str) -> bool:
    return misorientation_deg(first, second, space_group_of_hall(hall), equivalence="laue") < _SAME_DEG


def _acceptable(found: Refined, n_spots: int, config: IndexingConfig) -> bool:
    if found.n_used < max(config.min_indexed, config.min_indexed_fraction * n_spots):
        return False
    return chance_exponent(found, n_spots, config.hkl_tolerance) >= config.min_chance_exponent


def _has_cell(found: Refined, cell: CellParameters, tolerance: float) -> bool:
    refined = cell_from_basis(np.asarray(np.linalg.inv(found.A)))
    edges = max(abs(new / old - 1.0) for new, old in zip(refined[:3], cell[:3], strict=True))
    angles = max(abs(new - old) for new, old in zip(refined[3:], cell[3:], strict=True))
    return bool(max(edges, np.radians(angles)) <= tolerance)
