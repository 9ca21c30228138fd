"""A lattice of unknown cell in the spots of one still: vectors, reduced bases, refinement, Bravais lattice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray
from exafel.config.indexing import IndexingConfig
from exafel.io.crystal import space_group, space_group_of_hall
from exafel.io.geometry import Beam
from exafel.stills.bravais import bravais_settings, lattice_symbol, reduce_basis
from exafel.stills.cell_symmetry import constrain_setting, reciprocal_metric
from exafel.stills.chance import chance_exponent, filled_fraction
from exafel.stills.lattice_vectors import find_lattice_vectors
from exafel.stills.refinement import Refined, refine_lattice
from exafel.stills.setting import CellRestraint
from exafel.stills.spot_vectors import SpotVectors

_P1 = "P 1"
_FIRST_LENGTH_ANGSTROM = 100.0  # the first search's longest vector; each further one doubles it
_VECTORS = 40
_NEAR = 0.2  # distance of an index from an integer that counts as near
_LEAST_SHARE = 0.75  # of the spots of the best triple that another one may index to be looked at
_FLAT = 0.15  # volume over the product of the edges below which three vectors lie in a plane
_CANDIDATES = 6
_ROUNDS = 5  # of refinement, to choose among candidates
_MAX_FILLED = 0.03  # part of the reciprocal cell that the spots' errors may fill
_SAME_EDGES = 0.02
_STRAIN = 0.01  # standard deviation of the cell about the one that the search found
_MIN_SPOTS_KEPT = 0.9  # part of the triclinic lattice's spots that one of higher symmetry has to fit
_MAX_RISE = 1.3  # of the root mean square displacements, likewise


@dataclass(frozen=True, eq=False)
class FoundLattice:
    """A refined lattice, and the Hall symbol of the symmetry that it was given."""

    refined: Refined
    hall: str


def find_unknown_lattice(
    spots: SpotVectors, searched: SpotVectors, beam: Beam, config: IndexingConfig
) -> FoundLattice | None:
    """Find the lattice that explains most of the spots; the search for long axes goes on only while none does well.

    Parameters
    ----------
    spots
        All spots that the lattice may index.
    searched
        Those to search with.
    beam
        Beam of the shot.
    config
        Limits. Where it names a space group, the lattice has that group's Bravais type.

    Returns
    -------
    FoundLattice or None
        None where no lattice is far enough from what chance does.
    """
    length = min(_FIRST_LENGTH_ANGSTROM, config.max_cell_angstrom)
    while True:
        vectors, _ = find_lattice_vectors(searched.rlp, length, _VECTORS)
        best = _best_triclinic(vectors, searched, beam, config) if len(vectors) >= 3 else None
        if best is not None:
            return _with_symmetry(best, spots, searched, beam, config)
        if length >= config.max_cell_angstrom:
            return None
        length = min(2.0 * length, config.max_cell_angstrom)


def _best_triclinic(vectors: FloatArray, searched: SpotVectors, beam: Beam, config: IndexingConfig) -> Refined | None:
    """Refine the most promising bases without symmetry; return the one that chance explains least."""
    best, best_score = None, config.min_chance_exponent
    for basis in _candidate_bases(vectors, searched.rlp):
        refined = _refine(np.asarray(np.linalg.inv(basis)), _P1, searched, searched, beam, config, rough=True)
        if refined is None or refined.n_used < config.min_indexed:
            continue
        if filled_fraction(refined, config.hkl_tolerance) > _MAX_FILLED:
            continue  # a small cell fits many spots, none of them well; a longer axis is missing
        score = chance_exponent(refined, len(searched), config.hkl_tolerance)
        if score > best_score:
            best, best_score = refined, score
    return best


def _candidate_bases(vectors: FloatArray, rlp: FloatArray) -> Iterator[FloatArray]:
    """Reduced bases from triples of vectors that index nearly as many spots as the best, small volumes first.

    Any three vectors of a lattice span it or a part of it: they index the same spots, with a larger cell.
    """
    index = vectors @ rlp.T
    near = (np.abs(index - np.rint(index)) < _NEAR).astype(np.float32)
    first, second = np.triu_indices(len(vectors), 1)
    counts = (near[first] * near[second]) @ near.T
    cross = np.cross(vectors[first], vectors[second])
    volume = np.abs(cross @ vectors.T)
    lengths = np.linalg.norm(vectors, axis=1)
    flat = volume < _FLAT * (lengths[first] * lengths[second])[:, None] * lengths
    counts[flat | (np.arange(len(vectors)) <= second[:, None])] = -1.0
    if counts.max() < 0:
        return
    rows, third = np.nonzero(counts >= _LEAST_SHARE * counts.max())
    # the count falls and the volume grows by chance alone; together they say which triple is the lattice itself
    order = np.lexsort((volume[rows, third], -counts[rows, third] / np.log(volume[rows, third])))
    given: list[FloatArray] = []
    for pick in order:
        basis = reduce_basis(vectors[[first[rows[pick]], second[rows[pick]], third[pick]]])
        metric = np.sort(np.linalg.norm(basis, axis=1))
        if any(np.abs(metric / other - 1.0).max() < _SAME_EDGES for other in given):
            continue
        given.append(metric)
        yield basis
        if len(given) == _CANDIDATES:
            return


def _refine(
    A: FloatArray,
    hall: str,
    spots: SpotVectors,
    searched: SpotVectors,
    beam: Beam,
    config: IndexingConfig,
    *,
    rough: bool = False,
) -> Refined | None:
    settings = config.refinement
    if rough:
        settings = settings.model_copy(update={"max_macrocycles": _ROUNDS})
    limit = 1.0 / float(np.linalg.norm(searched.rlp, axis=1).max())
    return refine_lattice(
        A,
        hall,
        spots,
        beam,
        settings,
        hkl_tolerance=config.hkl_tolerance,
        restraint=CellRestraint(reciprocal_metric(A), _STRAIN),
        d_min_start=2.0 * limit if rough else limit,
    )


def _with_symmetry(
    triclinic: Refined, spots: SpotVectors, searched: SpotVectors, beam: Beam, config: IndexingConfig
) -> FoundLattice | None:
    """Choose the highest symmetry whose constraints the spots bear as well as no constraint at all."""
    reduced = reduce_basis(np.asarray(np.linalg.inv(triclinic.A)))
    settings = bravais_settings(reduced, config.max_obliquity_deg)
    wanted = None if config.space_group is None else str(space_group(config.space_group).hall)
    if wanted is not None:
        settings = [item for item in settings if item.lattice == lattice_symbol(space_group_of_hall(wanted))]
    free = _refine(np.asarray(np.linalg.inv(reduced)), _P1, searched, searched, beam, config)
    for setting in settings:
        A = constrain_setting(np.asarray(np.linalg.inv(setting.transform @ reduced)), setting.hall)
        found = _refine(A, setting.hall, searched, searched, beam, config)
        if found is None or (free is not None and setting.lattice != "aP" and not _as_good(found, free)):
            continue
        final = _refine(found.A, setting.hall, spots, searched, beam, config)
        if final is not None:
            return FoundLattice(final, wanted or setting.hall)
    return None


def _as_good(constrained: Refined, free: Refined) -> bool:
    if constrained.n_used < _MIN_SPOTS_KEPT * free.n_used:
        return False
    size, least = _rms(constrained), _rms(free)
    return bool((size <= _MAX_RISE * least).all())


def _rms(found: Refined) -> FloatArray:
    """Root mean square displacement on the detector, and distance from the Ewald sphere, of the spots that fit."""
    squares = (found.residual[found.used] ** 2).mean(axis=0)
    return np.sqrt([squares[:2].sum(), squares[2]])
