"""Which start goes on, of made-up ones with known scores."""

from __future__ import annotations

import numpy as np

from exafel.spi.rotations import random_quaternions
from exafel.spi.starts import better_start
from exafel.spi.state import Assignments

N = 100


def start(classes: np.ndarray, score: np.ndarray, seed: int, soft: int = 3) -> tuple[Assignments, np.ndarray]:
    rng = np.random.default_rng(seed)
    q = random_quaternions(N * soft, rng).reshape(N, soft, 4)
    weights = rng.dirichlet(np.ones(soft), size=N)
    a = Assignments(q, weights, np.repeat(classes[:, None], soft, axis=1), score, np.ones(N))
    return a, rng.random((int(classes.max()) + 1, 3, 3, 3)).astype(np.float32)


def test_the_better_of_each_class_goes_on_though_starts_name_them_differently() -> None:
    kind = np.arange(N) % 2
    first = start(kind, np.where(kind == 0, 0.9, 0.5), 1)
    second = start(1 - kind, np.where(kind == 0, 0.6, 0.8), 2)  # its class 0 is the first's class 1
    a, models = better_start(first, second)
    np.testing.assert_array_equal(a.best_class, kind)
    np.testing.assert_array_equal(a.score, np.where(kind == 0, 0.9, 0.8))
    np.testing.assert_array_equal(a.best[kind == 0], first[0].best[kind == 0])
    np.testing.assert_array_equal(a.best[kind == 1], second[0].best[kind == 1])
    np.testing.assert_array_equal(models, np.stack([first[1][0], second[1][0]]))


def test_images_of_doubtful_class_go_where_their_frame_goes_on() -> None:
    kind = np.arange(N) % 2
    other = kind.copy()
    other[:4] = 1 - other[:4]
    first = start(kind, np.where(kind == 0, 0.9, 0.5), 1)
    second = start(other, np.where(kind == 0, 0.6, 0.8), 2)
    a, _ = better_start(first, second)  # class 0 of the first, class 1 of the second
    # images 0 and 2: class 0 in the first, 1 in the second, so both frames go on, and the score decides
    np.testing.assert_array_equal(a.best_class[[0, 2]], 0)
    # images 1 and 3: class 1 in the first and 0 in the second, neither goes on; the second's score is better
    np.testing.assert_array_equal(a.best_class[[1, 3]], 0)
    np.testing.assert_array_equal(a.best[4:][kind[4:] == 1], second[0].best[4:][kind[4:] == 1])


def test_a_start_that_is_better_in_all_goes_on_whole_and_soft() -> None:
    kind = np.arange(N) % 2
    first, second = start(kind, np.full(N, 0.5), 1), start(1 - kind, np.full(N, 0.6), 2)
    for a, b in ((first, second), (second, first)):
        assert better_start(a, b) is second
    one = start(np.zeros(N, dtype=np.int64), np.full(N, 0.7), 3)
    assert better_start(start(np.zeros(N, dtype=np.int64), np.full(N, 0.6), 4), one) is one


def test_starts_that_part_the_images_differently_are_compared_whole() -> None:
    first = start(np.arange(N) % 2, np.where(np.arange(N) % 2 == 0, 0.9, 0.5), 1)
    second = start(np.arange(N) // 2 % 2, np.full(N, 0.71), 2)
    assert better_start(first, second) is second
    assert better_start(second, first) is second
