from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.errors import InputError
from exafel.merging.group import MAX_LATTICES, Observations, exchange, order_words, owner, renumbered
from exafel.parallel.comm import Communicator, SerialComm
from exafel.parallel.local import run_local

N = 3000


def made(seed: int = 0) -> Observations:
    rng = np.random.default_rng(seed)
    words = [order_words(2 * rng.integers(1, 200, N // 40), number, odd=number % 3 == 0) for number in range(40)]
    return Observations(np.concatenate(words), rng.normal(size=N), rng.random(N))


SAME = np.arange(40)


def share(order: list[int], comm: Communicator) -> list[Observations] | None:
    """Each rank takes every size-th lattice in some order; rank 0 returns every rank's share after the exchange."""
    everything = made()
    parts = [everything.take(everything.lattices == number) for number in order[comm.rank :: comm.size]]
    return comm.gather(renumbered(exchange(Observations.concatenate(parts), comm), SAME))


def test_words_hold_key_lattice_and_half() -> None:
    observations = made()
    assert np.array_equal(observations.odd, observations.lattices % 3 == 0)
    assert set(observations.keys.tolist()) <= set(range(2, 400, 2))
    with pytest.raises(InputError, match="lattices"):
        order_words(np.array([2]), MAX_LATTICES, odd=True)


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_observation_is_kept_once_and_reflections_are_whole(ranks: int) -> None:
    shares = run_local(share, ranks, list(range(40)))
    assert shares is not None
    joined = Observations.concatenate(shares)
    expected = renumbered(made(), SAME)
    rows = np.argsort(joined.order, kind="stable")
    assert np.array_equal(joined.take(rows).order, expected.order)
    assert np.array_equal(joined.take(rows).intensity, expected.intensity)
    seen = [set(part.keys.tolist()) for part in shares]
    assert all(not seen[i] & seen[j] for i in range(ranks) for j in range(i))
    assert min(len(part) for part in shares) > N / ranks / 2


@settings(max_examples=20)
@given(st.permutations(list(range(40))))
def test_the_order_of_lattices_does_not_matter(order: list[int]) -> None:
    shares = share(order, SerialComm())
    expected = share(list(range(40)), SerialComm())
    assert shares is not None
    assert expected is not None
    assert np.array_equal(shares[0].intensity, expected[0].intensity)
    assert np.array_equal(shares[0].order, expected[0].order)


def test_observations_of_one_reflection_in_one_lattice_stay_in_their_order() -> None:
    words = order_words(np.full(4, 6), 0, odd=True)
    values = np.array([3.0, 1.0, 2.0, 0.0])
    assert renumbered(Observations(words, values, values), SAME).intensity.tolist() == values.tolist()


@given(st.integers(1, 64))
def test_bijvoet_mates_share_an_owner_and_owners_share_the_load(size: int) -> None:
    keys = np.arange(2, 200_002, 2)
    owners = owner(keys, size)
    assert np.array_equal(owner(keys + 1, size), owners)
    counts = np.bincount(owners, minlength=size)
    assert counts.max() < 1.2 * counts.mean()


def test_nothing_to_group() -> None:
    empty = renumbered(exchange(Observations.concatenate([]), SerialComm()), SAME)
    assert len(empty) == 0
    assert len(empty.starts()) == 0


@given(st.permutations(list(range(40))))
def test_new_numbers_keep_everything_else_and_negative_ones_drop_a_lattice(numbers: list[int]) -> None:
    observations = made()
    new = np.where(np.array(numbers) < 5, -1, numbers)
    again = renumbered(observations, new)
    assert np.all(np.diff(again.order) >= 0)
    assert len(again) == np.count_nonzero(new[observations.lattices] >= 0)
    old = {value: (key, new[lattice], odd) for value, key, lattice, odd in rows(observations)}
    assert all(old[value] == (key, lattice, odd) for value, key, lattice, odd in rows(again))


def rows(observations: Observations) -> list[tuple[float, int, int, bool]]:
    columns = (observations.intensity, observations.keys, observations.lattices, observations.odd)
    return list(zip(*(column.tolist() for column in columns), strict=True))
