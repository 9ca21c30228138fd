"""Indexing ambiguity without a reference: Brehm & Diederichs (2014), Acta Cryst. D70, 101-109.

Every lattice in each of its m indexings is a vector, and the scalar product of two vectors is to be the correlation of
the two lattices' intensities so indexed (the form of Gildea & Winter (2018), Acta Cryst. D74, 405-410, which covers any
number of indexings). Vectors of indexings that agree point the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.config.scaling import BrehmDiederichsConfig
from exafel.merging.ambiguity import GENERAL, reindex
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.scaling import Reference

_SEED = 20140101
_N_SHELLS = 10
_LARGEST = 8.0  # of an intensity in units of its shell's mean: one outlier must not make a correlation
_MAX_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class SampledLattice:
    """A lattice that is compared with others.

    Parameters
    ----------
    digest
        What lattices are sorted by.
    hkl, intensity, d_star_sq
        Its reflections as it was indexed, shape (n, 3); intensities, and 1/d^2 in 1/angstrom^2, shape (n,).
    """

    digest: tuple[int, int]
    hkl: AnyArray
    intensity: FloatArray
    d_star_sq: FloatArray


def resolve(
    lattices: Sequence[SampledLattice], operators: FloatArray, asu: AsymmetricUnit, config: BrehmDiederichsConfig
) -> tuple[IntArray, Reference]:
    """Find indexings with which lattices agree.

    Parameters
    ----------
    lattices
        In an order that does not depend on files or ranks.
    operators
        See `exafel.merging.ambiguity.reindexing_operators`, shape (m, 3, 3).
    asu
        Asymmetric unit in which Bijvoet mates are merged.
    config
        The parameters.

    Returns
    -------
    Number of the operator of each lattice, shape (n,), and what they give together: means of intensities in units of
    those of their resolution shell. Which of the indexings is called the first is arbitrary: most lattices keep theirs.
    """
    normalized = _normalized(lattices)
    distinct, columns = _columns(lattices, operators, asu)
    values = _matrix(normalized, columns, len(operators), len(distinct))
    correlation, known = pairwise_correlations(values, len(operators), config.min_common)
    vectors = spread_vectors(correlation, known, max(config.dimensions, len(operators)))
    chosen = _choose(vectors.reshape(len(lattices), len(operators), -1))
    chosen = _polish(chosen, normalized, columns, len(distinct))
    chosen = _first_kept(chosen, operators, asu)
    reference, _ = _means(chosen, normalized, columns, len(distinct))
    measured = np.isfinite(reference)
    return chosen, Reference.of(distinct[measured], reference[measured])


def _normalized(lattices: Sequence[SampledLattice]) -> list[FloatArray]:
    """Intensities over the mean of their shell of resolution, on a scale of each lattice's own."""
    everything = np.concatenate([item.d_star_sq for item in lattices])
    limits = np.quantile(everything, np.linspace(0.0, 1.0, _N_SHELLS + 1)[1:-1])
    scaled = [item.intensity / max(float(np.mean(np.abs(item.intensity))), 1e-300) for item in lattices]
    shells = [np.searchsorted(limits, item.d_star_sq) for item in lattices]
    sums = np.bincount(np.concatenate(shells), weights=np.concatenate(scaled), minlength=_N_SHELLS)
    counts = np.bincount(np.concatenate(shells), minlength=_N_SHELLS)
    means = np.maximum(sums / np.maximum(counts, 1), 1e-3 * np.abs(sums).max() / counts.max())
    return [np.clip(value / means[shell], -_LARGEST, _LARGEST) for value, shell in zip(scaled, shells, strict=True)]


def _columns(
    lattices: Sequence[SampledLattice], operators: FloatArray, asu: AsymmetricUnit
) -> tuple[IntArray, list[list[IntArray]]]:
    """All keys that occur, sorted, and for each lattice and operator the place of its reflections' keys among them."""
    keys = [[asu.keys(reindex(item.hkl, operator)) for operator in operators] for item in lattices]
    distinct = np.unique(np.concatenate([key for item in keys for key in item]))
    return distinct, [[np.searchsorted(distinct, key) for key in item] for item in keys]


def _matrix(
    normalized: Sequence[FloatArray], columns: Sequence[Sequence[IntArray]], n_operators: int, n_keys: int
) -> csr_array:
    """Intensities by (lattice, operator) and key; equivalents in one lattice are averaged."""
    rows = [
        np.full(len(column), n_operators * number + place)
        for number, item in enumerate(columns)
        for place, column in enumerate(item)
    ]
    value = np.concatenate([item for item in normalized for _ in range(n_operators)])
    index = (np.concatenate(rows), np.concatenate([column for item in columns for column in item]))
    shape = (len(normalized) * n_operators, n_keys)
    total, count = (csr_array((data, index), shape=shape) for data in (value, np.ones(len(value))))
    total.sum_duplicates()
    count.sum_duplicates()
    total.data /= count.data
    return total


def pairwise_correlations(values: csr_array, n_operators: int, min_common: int) -> tuple[FloatArray, FloatArray]:
    """Correlations of rows over the columns that both have, and whether each is known, shape (n m, n m).

    Rows are lattices in each of their indexings; those of one lattice are not compared.
    """
    ones = csr_array((np.ones_like(values.data), values.indices, values.indptr), shape=values.shape)
    squares = csr_array((values.data**2, values.indices, values.indptr), shape=values.shape)
    n = np.asarray((ones @ ones.T).todense())
    s1 = np.asarray((values @ ones.T).todense())
    s2 = np.asarray((squares @ ones.T).todense())
    product = np.asarray((values @ values.T).todense())
    safe = np.maximum(n, 1.0)
    covariance = product - s1 * s1.T / safe
    variance = np.maximum(s2 - s1**2 / safe, 0.0)
    norm = np.sqrt(variance * variance.T)
    lattice = np.arange(len(n)) // n_operators
    known = (n >= min_common) & (norm > 1e-12) & (lattice[:, None] != lattice[None, :])
    return np.where(known, covariance / np.where(known, norm, 1.0), 0.0), known.astype(np.float64)


def spread_vectors(correlation: FloatArray, known: FloatArray, dimensions: int) -> FloatArray:
    """Vectors whose scalar products are the correlations that are known, by least squares, shape (n m, dimensions)."""
    rng = np.random.default_rng(_SEED)
    start = rng.normal(scale=0.3, size=(len(correlation), dimensions))

    def target(flat: FloatArray) -> tuple[float, FloatArray]:
        x = flat.reshape(start.shape)
        residual = known * (x @ x.T - correlation)
        return 0.5 * float((residual**2).sum()), (2.0 * residual @ x).ravel()

    found = minimize(target, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x.reshape(start.shape))


def _choose(vectors: FloatArray) -> IntArray:
    """Pick one vector of each lattice's (n, m, dimensions) so that all point the same way, shape (n,)."""
    lengths = np.linalg.norm(vectors, axis=2)
    direction = vectors[np.unravel_index(int(np.argmax(lengths)), lengths.shape)]
    chosen = np.full(len(vectors), -1)
    for _ in range(_MAX_ROUNDS):
        now = np.argmax(vectors @ direction, axis=1)
        if np.array_equal(now, chosen):
            break
        chosen = now
        direction = vectors[np.arange(len(vectors)), chosen].mean(axis=0)
    return chosen


def _means(
    chosen: IntArray, normalized: Sequence[FloatArray], columns: Sequence[Sequence[IntArray]], n_keys: int
) -> tuple[FloatArray, IntArray]:
    """Mean of each key over the lattices so indexed, NaN where there is none, and their numbers."""
    index = np.concatenate([columns[number][place] for number, place in enumerate(chosen)])
    sums = np.bincount(index, weights=np.concatenate(normalized), minlength=n_keys)
    counts = np.bincount(index, minlength=n_keys)
    return np.divide(sums, counts, out=np.full(n_keys, np.nan), where=counts > 0), counts


def _polish(
    chosen: IntArray, normalized: Sequence[FloatArray], columns: Sequence[Sequence[IntArray]], n_keys: int
) -> IntArray:
    """Give each lattice in turn the indexing that correlates best with the mean of all others, until none changes."""
    chosen = chosen.copy()
    means, counts = _means(chosen, normalized, columns, n_keys)
    n = counts.astype(np.float64)
    sums = np.nan_to_num(means) * n
    for _ in range(_MAX_ROUNDS):
        changed = False
        for number, value in enumerate(normalized):
            before = int(chosen[number])
            np.subtract.at(sums, columns[number][before], value)
            np.subtract.at(n, columns[number][before], 1.0)
            scores = [_score(value, column, sums, n) for column in columns[number]]
            best = int(np.argmax(scores)) if max(scores) > scores[before] else before
            np.add.at(sums, columns[number][best], value)
            np.add.at(n, columns[number][best], 1.0)
            chosen[number] = best
            changed |= best != before
        if not changed:
            break
    return chosen


def _score(value: FloatArray, column: IntArray, sums: FloatArray, counts: FloatArray) -> float:
    known = counts[column] > 0.5
    if np.count_nonzero(known) < 3:
        return 0.0
    x, y = value[known], sums[column[known]] / counts[column[known]]
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


def _first_kept(chosen: IntArray, operators: FloatArray, asu: AsymmetricUnit) -> IntArray:
    """Apply one more operator to all lattices, the one that lets most of them keep their own indexing."""
    number = {int(asu.keys(reindex(GENERAL, operator))[0]): place for place, operator in enumerate(operators)}
    options = []
    for more in operators:
        table = [number.get(int(asu.keys(reindex(GENERAL, operator @ more))[0]), -1) for operator in operators]
        if min(table) >= 0:
            options.append(np.array(table)[chosen])
    return max(options, key=lambda item: int((item == 0).sum()))


def sample(lattices: Sequence[SampledLattice], n: int) -> list[SampledLattice]:
    """First lattices in the order of their digests, which is random and the same in every run."""
    return sorted(lattices, key=lambda item: item.digest)[:n]
