from __future__ import annotations

import numpy as np
import pytest

from exafel.merging.delta_cc import delta_cc_half, outliers
from exafel.merging.group import Observations, order_words
from exafel.parallel.comm import Communicator, SerialComm
from exafel.parallel.local import run_local

N_LATTICES, N_UNIQUE = 30, 400


def made(bad: int | None = None, seed: int = 0, left_out: int | None = None) -> Observations:
    rng = np.random.default_rng(seed)
    true = 100.0 * rng.exponential(size=N_UNIQUE)
    parts = []
    for number in range(N_LATTICES):
        chosen = np.sort(rng.choice(N_UNIQUE, 120, replace=False))
        value = true[chosen] if number != bad else rng.permutation(true)[chosen]
        intensity = value + rng.normal(0, 40.0, len(chosen))
        if number != left_out:
            parts.append((order_words(2 * chosen + 2, number, odd=False), intensity))
    order = np.concatenate([words for words, _ in parts])
    rows = np.argsort(order)
    intensity = np.concatenate([values for _, values in parts])[rows]
    return Observations(order[rows], intensity, np.ones(len(order)))


def shared(comm: Communicator) -> tuple[float, list[float]]:
    data = made(bad=4)
    mine = data.take(data.keys // 2 % comm.size == comm.rank)
    cc_half, delta = delta_cc_half(lambda: [mine], N_LATTICES, comm)
    return cc_half, delta.tolist()


@pytest.mark.parametrize("number", [0, 11, 29])
def test_the_difference_is_that_of_computing_it_anew_without_the_lattice(number: int) -> None:
    cc_half, delta = delta_cc_half(lambda: [made()], N_LATTICES, SerialComm())
    without, _ = delta_cc_half(lambda: [made(left_out=number)], N_LATTICES, SerialComm())
    assert delta[number] == pytest.approx(cc_half - without, abs=1e-8)


def test_cc_half_is_that_of_halves() -> None:
    """Sampled over random halves of many observations a reflection; the formula is for halves of half as many."""
    cc_half, _ = delta_cc_half(lambda: [made()], N_LATTICES, SerialComm())
    data = made()
    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        half = rng.permutation(N_LATTICES) < N_LATTICES // 2
        means = []
        for side in (half, ~half):
            use = side[data.lattices]
            n = np.bincount(data.keys[use] // 2, minlength=N_UNIQUE + 2)
            sums = np.bincount(data.keys[use] // 2, weights=data.intensity[use], minlength=N_UNIQUE + 2)
            means.append(np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0))
        both = np.isfinite(means[0]) & np.isfinite(means[1])
        found.append(np.corrcoef(means[0][both], means[1][both])[0, 1])
    assert cc_half == pytest.approx(np.mean(found), abs=0.02)


def test_a_lattice_of_other_intensities_stands_out() -> None:
    _, delta = delta_cc_half(lambda: [made(bad=17)], N_LATTICES, SerialComm())
    assert delta.argmin() == 17
    assert delta[17] < 0
    assert outliers(delta, 4.0).tolist() == [17]
    _, delta = delta_cc_half(lambda: [made()], N_LATTICES, SerialComm())
    assert outliers(delta, 4.0).tolist() == []


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_gives_the_same_bits(ranks: int) -> None:
    assert run_local(shared, ranks) == shared(SerialComm())


def test_too_little_data_gives_no_difference() -> None:
    data = made().take(slice(0, 3))
    cc_half, delta = delta_cc_half(lambda: [data], N_LATTICES, SerialComm())
    assert not np.isfinite(cc_half)
    assert delta.tolist() == [0.0] * N_LATTICES
