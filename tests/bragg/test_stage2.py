"""Stage 2's sums against closed forms and against sparse matrices, and its minimizer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from exafel.bragg.lbfgs import LbfgsState, step
from exafel.bragg.likelihood import pixel_likelihood
from exafel.bragg.packed import PackedShots, join_shots, pack_shot, terms_of
from exafel.bragg.stage2_array import ArrayShots
from exafel.bragg.stage2_shots import impossible_pixels, share_by_size

N_REFLECTIONS = 60
NOISE = 0.3


def made_shot(seed: int, n: int = 400) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Coefficients, data and background of a shot; most pixels meet one reflection, some two or three."""
    rng = np.random.default_rng(seed)
    F2 = squares()
    spot = np.repeat(rng.choice(N_REFLECTIONS, n // 20, replace=False), 20)
    row, column = np.arange(n), spot
    value = rng.uniform(0.2, 1, n) * 1e-3
    for _ in range(2):
        extra = rng.choice(n, n // 15, replace=False)
        row = np.concatenate([row, extra])
        column = np.concatenate([column, rng.choice(np.unique(spot), len(extra))])
        value = np.concatenate([value, rng.uniform(0.2, 1, len(extra)) * 1e-3])
    table = sparse.csr_array((value, (row, column)), shape=(n, N_REFLECTIONS))
    table.sum_duplicates()
    background = rng.uniform(3, 9, n)
    return table, rng.poisson(background + 1.3 * (table @ F2)).astype(float), background


def squares() -> np.ndarray:
    return np.random.default_rng(99).gamma(1.0, 1.0, N_REFLECTIONS) * 3e4 + 100


def packed(seeds: list[int]) -> PackedShots:
    shots = []
    for seed in seeds:
        table, data, background = made_shot(seed)
        shots.append(pack_shot(table, data, background, np.ones(len(data), bool)))
    return join_shots(shots)


def evaluate(shots: PackedShots, evaluator: object, f_squared: np.ndarray, *, refine: bool, scale=None, threads=1):
    scales = np.zeros(len(shots)) if scale is None else scale.copy()
    numbers = np.zeros((len(shots), 3))
    gradient, curvature = np.zeros(N_REFLECTIONS), np.zeros(N_REFLECTIONS)
    evaluator.evaluate(f_squared, NOISE, refine, scales, numbers, gradient, curvature, threads)
    return scales, numbers, gradient, curvature


def test_sums_are_those_of_the_likelihood() -> None:
    F2, scale = squares(), np.array([0.2, -0.1])
    shots = packed([1, 2])
    _, numbers, gradient, curvature = evaluate(shots, shots.host, F2, refine=False, scale=scale)
    expected, curved = np.zeros(N_REFLECTIONS), np.zeros(N_REFLECTIONS)
    for shot, seed in enumerate((1, 2)):
        table, data, background = made_shot(seed)
        g = np.exp(scale[shot])
        found = pixel_likelihood(data, background + g * (table @ F2), np.sqrt(NOISE))
        assert numbers[shot, 0] == pytest.approx(found.value, rel=1e-5)
        assert numbers[shot, 1] == pytest.approx(np.sum(found.z**2), rel=1e-5)
        assert numbers[shot, 2] == pytest.approx(np.sum(np.minimum(found.z**2, 100)), rel=1e-5)
        expected += 2 * g * F2 * (table.T @ found.slope)
        curved += (2 * g * F2) ** 2 * (table.power(2).T @ found.fisher)
    assert gradient == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())
    assert curvature == pytest.approx(curved, rel=1e-3)


def test_reflections_of_any_number_of_pixels() -> None:
    """Blocks of sixteen reflections, full and not, with one pixel and with more than a short sum takes."""
    rng = np.random.default_rng(4)
    sizes = [*rng.integers(1, 9, 35), 120, 33, 32, 1]
    column = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(column))
    value = rng.uniform(0.2, 1, len(column)) * 1e-3
    n = len(column)
    table = sparse.csr_array((value[order], (np.arange(n), column[order])), shape=(n, N_REFLECTIONS))
    background, F2 = rng.uniform(3, 9, n), squares()
    data = rng.poisson(background + table @ F2).astype(float)
    shots = join_shots([pack_shot(table, data, background, np.ones(len(data), bool))])
    _, numbers, gradient, curvature = evaluate(shots, shots.host, F2, refine=False)
    found = pixel_likelihood(data, background + table @ F2, np.sqrt(NOISE))
    assert numbers[0, :2] == pytest.approx([found.value, np.sum(found.z**2)], rel=1e-5)
    expected = 2 * F2 * (table.T @ found.slope)
    assert gradient == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())
    assert curvature == pytest.approx((2 * F2) ** 2 * (table.power(2).T @ found.fisher), rel=1e-4)


def test_the_best_scale_leaves_no_slope_and_the_gradient_is_that_of_the_value() -> None:
    F2, shots = squares(), packed([1, 2, 3])
    scales, numbers, gradient, _ = evaluate(shots, shots.host, F2, refine=True)
    assert np.exp(scales) == pytest.approx(1.3, rel=0.05)
    for h in (-1e-3, 1e-3):
        moved = evaluate(shots, shots.host, F2, refine=False, scale=scales + h)[1]
        assert np.all(moved[:, 0] >= numbers[:, 0])
    for reflection in range(0, N_REFLECTIONS, 13):
        values = []
        for h in (-1e-3, 1e-3):
            moved = F2.copy()
            moved[reflection] *= np.exp(2 * h)
            values.append(evaluate(shots, shots.host, moved, refine=True, scale=scales)[1][:, 0].sum())
        assert (values[1] - values[0]) / 2e-3 == pytest.approx(gradient[reflection], abs=0.15)


def test_neither_order_nor_threads_change_a_bit() -> None:
    F2 = squares()
    one, other = packed([1, 2, 3, 4, 5]), packed([5, 3, 1, 2, 4])
    a = evaluate(one, one.host, F2, refine=True)
    b = evaluate(other, other.host, F2, refine=True, threads=3)
    assert np.array_equal(a[2], b[2])
    assert np.array_equal(a[3], b[3])
    assert a[1].sum(axis=0).tolist() == b[1].sum(axis=0).tolist()
    parts = [packed([1, 4]), packed([2, 3, 5])]
    split = sum(evaluate(part, part.host, F2, refine=True)[2] for part in parts)
    assert np.array_equal(a[2], split)


def test_sparse_matrices_give_the_same() -> None:
    F2, shots = squares(), packed([1, 2, 3])
    ours = evaluate(shots, shots.host, F2, refine=True)
    arrays = evaluate(shots, ArrayShots(shots), F2, refine=True)
    assert arrays[0] == pytest.approx(ours[0], abs=1e-5)
    assert arrays[1] == pytest.approx(ours[1], rel=1e-5)
    assert arrays[2] == pytest.approx(ours[2], abs=1e-4 * np.abs(ours[2]).max())
    assert arrays[3] == pytest.approx(ours[3], rel=1e-3)


@pytest.mark.gpu
def test_a_gpu_gives_the_same() -> None:
    cupy = pytest.importorskip("cupy")
    matrices = pytest.importorskip("cupyx.scipy.sparse")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        pytest.skip("no GPU")
    F2, shots = squares(), packed([1, 2, 3])
    ours = evaluate(shots, shots.host, F2, refine=True)
    theirs = evaluate(shots, ArrayShots(shots, cupy, matrices), F2, refine=True)
    assert theirs[0] == pytest.approx(ours[0], abs=1e-5)
    assert theirs[2] == pytest.approx(ours[2], abs=1e-4 * np.abs(ours[2]).max())


def test_pixels_that_no_amplitude_explains_are_found() -> None:
    table, data, background = made_shot(6)
    terms, used = terms_of(table), np.ones(len(data), dtype=bool)
    assert not impossible_pixels(terms, data, background, used).any()
    wrong = 6 * (table @ squares())  # a spot that is six times as strong as its neighbours is only strong
    assert not impossible_pixels(terms, np.rint(background + wrong), background, used).any()
    alone = np.flatnonzero(np.diff(table.indptr) == 1)
    hot = alone[[3, 40, 90]]
    data[hot] += 9000
    assert np.flatnonzero(impossible_pixels(terms, data, background, used)).tolist() == sorted(hot)
    used[hot] = False
    assert not impossible_pixels(terms, data, background, used).any()


def test_pixels_held_out_are_not_fitted() -> None:
    table, data, background = made_shot(1)
    out = np.random.default_rng(0).random(len(data)) < 0.3
    both = [pack_shot(table, data, background, chosen) for chosen in (out, ~out)]
    whole = pack_shot(table, data, background, np.ones(len(data), bool))
    assert sum(item.n_pixels for item in both) == whole.n_pixels == len(data)
    assert sum(item.n_terms for item in both) == whole.n_terms == table.nnz
    assert np.sort(np.concatenate([item.data for item in both])) == pytest.approx(np.sort(data))


def test_arrays_that_do_not_fit_are_refused() -> None:
    shots = packed([1])
    with pytest.raises(ValueError, match="not in the list"):
        evaluate(shots, shots.host, squares()[:3], refine=False)
    table, data, background = made_shot(1)
    broken = pack_shot(table, data, background, np.ones(len(data), bool))
    broken.row_terms[0] += 1
    with pytest.raises(ValueError, match="add up"):
        _ = join_shots([broken]).host
    unordered = pack_shot(table, data, background, np.ones(len(data), bool))
    unordered.n_single[:] = unordered.n_single[::-1]
    with pytest.raises(ValueError, match="descending"):
        _ = join_shots([unordered]).host


def test_minimizer_finds_the_valley_and_goes_on_bit_for_bit() -> None:
    def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        gradient = np.zeros_like(x)
        gradient[1:] += 200 * a
        gradient[:-1] += -400 * a * x[:-1] - 2 * b
        return float(np.sum(100 * a**2 + b**2)), gradient

    def run(state: LbfgsState, n: int) -> LbfgsState:
        for _ in range(n):
            if not step(state, rosenbrock, longest=np.full(6, 5.0)):
                break
        return state

    start = np.full(6, -0.5)
    whole = run(LbfgsState(start, *rosenbrock(start)), 120)
    assert whole.x == pytest.approx(np.ones(6), abs=1e-5)
    half = run(LbfgsState(start, *rosenbrock(start)), 30)
    again = LbfgsState.from_arrays({name: array.copy() for name, array in half.arrays().items()})
    assert np.array_equal(run(again, 90).x, whole.x)


def test_shots_are_shared_by_size() -> None:
    sizes = [9, 1, 1, 1, 8, 7, 2, 3]
    shares = share_by_size(sizes, 3)
    assert sorted(number for share in shares for number in share) == list(range(8))
    loads = [sum(sizes[number] for number in share) for share in shares]
    assert max(loads) <= 11
    assert share_by_size(sizes, 1) == [list(range(8))]
