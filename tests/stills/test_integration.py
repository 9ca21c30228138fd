"""Integration against known counts, with its errors, exclusions and flags."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from exafel.config.integration import IntegrationConfig, SignificanceFilterConfig
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.integration import integrate, significant
from exafel.stills.profile import SpotProfile, estimate_profile, foreground_shapes, radial_directions

SIZE = 400
BEAM = Beam(1.0)
DETECTOR = Detector((Panel("p", [-20.0, 20.0, -100.0], [1, 0, 0], [0, -1, 0], (0.1, 0.1), (SIZE, SIZE)),))
PROFILE = SpotProfile(1.0, 1.0)
CONFIG = IntegrationConfig()


def predictions(xy: np.ndarray) -> ReflectionTable:
    n = len(xy)
    return ReflectionTable(
        {
            "id": np.zeros(n, dtype=np.int32),
            "panel": np.zeros(n, dtype=np.uint64),
            "flags": np.full(n, Flag.PREDICTED, dtype=np.uint64),
            "xyzcal.px": np.column_stack([xy, np.full(n, 0.5)]),
        }
    )


def grid(step: int = 25) -> np.ndarray:
    axis = np.arange(step, SIZE - step + 1, step)
    jitter = np.random.default_rng(8).uniform(-0.5, 0.5, size=(len(axis) ** 2, 2))
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) + jitter


def model(xy: np.ndarray, counts: np.ndarray, *, plane: bool = True) -> np.ndarray:
    """Pixel-exact Gaussian spots on a tilted background."""
    image = np.add.outer(np.linspace(0, 4, SIZE), np.linspace(3, 9, SIZE)) if plane else np.full((SIZE, SIZE), 5.0)
    edges = np.arange(SIZE + 1)
    for (x, y), total in zip(xy, counts, strict=True):
        image += total * np.outer(*[np.diff(stats.norm.cdf(edges, centre, 1.0)) for centre in (y, x)])
    return image


def run(
    image: np.ndarray, table: ReflectionTable, mask: np.ndarray | None = None, **options: object
) -> ReflectionTable:
    good = np.ones(image.shape, dtype=bool) if mask is None else mask
    config = CONFIG.model_copy(update=options)
    return integrate([image], [good], table, PROFILE, DETECTOR, BEAM, config, gain=1.0)


def test_intensities_and_their_errors_are_true() -> None:
    xy = grid()
    rng = np.random.default_rng(4)
    counts = rng.exponential(400, size=len(xy))
    result = run(rng.poisson(model(xy, counts)).astype(np.int32), predictions(xy))
    assert result.has_flag(Flag.INTEGRATED_SUM).all()
    pulls = (result["intensity.sum.value"] - 0.98889 * counts) / np.sqrt(result["intensity.sum.variance"])
    assert abs(pulls.mean()) < 4 / np.sqrt(len(xy))
    assert pulls.std() == pytest.approx(1.0, abs=0.15)
    strong = counts > 300
    offset = (result["xyzobs.px.value"][:, :2] - xy)[strong]
    scale = np.sqrt(result["xyzobs.px.variance"][strong, :2])
    assert np.std(offset / scale) == pytest.approx(1.0, abs=0.25)
    assert np.abs(offset.mean(axis=0)).max() < 0.02


@pytest.mark.parametrize(("typical", "gain"), [(30, 1.0), (400, 1.0), (60, 3.0)])
def test_profile_fits_are_true_and_weak_ones_better_than_sums(typical: float, gain: float) -> None:
    xy = grid()
    rng = np.random.default_rng(9)
    counts = rng.exponential(typical, size=len(xy))
    image = (gain * rng.poisson(model(xy, counts))).astype(np.float64)
    width = SpotProfile(np.sqrt(1 + 1 / 12), np.sqrt(1 + 1 / 12))  # what the moments of counts in pixels give
    config = CONFIG.model_copy(update={"profile_fitting": True})
    masks = [np.ones(image.shape, dtype=bool)]
    result = integrate([image], masks, predictions(xy), width, DETECTOR, BEAM, config, gain=gain)
    assert result.has_flag(Flag.INTEGRATED_PRF).all()
    truth = gain * 0.98889 * counts
    by_profile = result["intensity.prf.value"] - truth
    by_sum = result["intensity.sum.value"] - truth
    pulls = by_profile / np.sqrt(result["intensity.prf.variance"])
    assert abs(pulls.mean()) < 5 / np.sqrt(len(xy))
    assert pulls.std() == pytest.approx(1.0, abs=0.15)
    if typical < 100:
        assert by_profile.std() < 0.85 * by_sum.std()
        assert np.median(result["intensity.prf.variance"] / result["intensity.sum.variance"]) < 0.75
    strong = counts > 300
    assert strong.sum() == 0 or result["profile.correlation"][strong].min() > 0.7
    assert "intensity.prf.value" not in run(image, predictions(xy))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, np.int16])
def test_without_noise_the_plane_is_taken_away_exactly(dtype: type) -> None:
    xy = grid(50)
    background = 20 + 2 * np.arange(SIZE)[:, None] + 3 * np.arange(SIZE)[None, :]
    result = run(background.astype(dtype), predictions(xy))
    np.testing.assert_allclose(result["intensity.sum.value"], 0, atol=1e-6)
    np.testing.assert_allclose(
        result["background.sum.value"], result["background.mean"] * result["num_pixels.foreground"]
    )


def test_gain_scales_the_variance() -> None:
    xy = grid(50)
    image = np.random.default_rng(1).poisson(model(xy, np.full(len(xy), 500.0))).astype(np.float64)
    plain = run(image, predictions(xy))
    scaled = integrate([25 * image], [image >= 0], predictions(xy), PROFILE, DETECTOR, BEAM, CONFIG, gain=25.0)
    np.testing.assert_allclose(scaled["intensity.sum.value"], 25 * plain["intensity.sum.value"], rtol=1e-9)
    for name in ("intensity.sum.variance", "background.sum.variance"):
        np.testing.assert_allclose(scaled[name], 625 * plain[name], rtol=1e-9)
    signal = np.abs(plain["intensity.sum.value"])
    np.testing.assert_allclose(plain["background.sum.variance"] + signal, plain["intensity.sum.variance"], rtol=1e-9)


def test_hot_pixels_in_the_background_do_not_count() -> None:
    xy = np.array([[200.3, 199.8]])
    image = np.random.default_rng(2).poisson(model(xy, np.array([800.0]), plane=False)).astype(np.int32)
    clean = run(image, predictions(xy))
    image[204, 204] = 3000
    hot = run(image, predictions(xy))
    assert hot["intensity.sum.value"][0] == pytest.approx(clean["intensity.sum.value"][0], abs=12)
    kept = run(image, predictions(xy), max_rejections=0)
    assert kept["intensity.sum.value"][0] < clean["intensity.sum.value"][0] - 300


def test_a_neighbour_is_not_background() -> None:
    xy = np.array([[200.0, 200.0], [207.0, 200.0]])
    image = model(xy, np.array([50.0, 20000.0]), plane=False)
    together = run(image, predictions(xy), max_rejections=0)
    alone = run(image, predictions(xy[:1]), max_rejections=0)
    assert together["intensity.sum.value"][0] == pytest.approx(50, abs=60)
    assert abs(alone["intensity.sum.value"][0] - 50) > 500


def test_results_do_not_depend_on_order() -> None:
    rng = np.random.default_rng(6)
    xy = rng.uniform(20, SIZE - 20, size=(150, 2))
    image = rng.poisson(model(xy, rng.exponential(300, size=150))).astype(np.int32)
    order = rng.permutation(150)
    first, second = run(image, predictions(xy)), run(image, predictions(xy[order]))
    assert first.has_flag(Flag.OVERLAPPED_FG).any()
    for name in ("intensity.sum.value", "intensity.sum.variance", "flags", "bbox", "xyzobs.px.value"):
        np.testing.assert_array_equal(first[name][order], second[name])


def test_flags_say_what_went_wrong() -> None:
    xy = np.array([[100.0, 100.0], [200.0, 200.0], [1.0, 300.0], [300.0, 100.0], [300.2, 100.3], [350.0, 350.0]])
    image = np.full((SIZE, SIZE), 5, dtype=np.int32)
    mask = np.ones(image.shape, dtype=bool)
    mask[100, 101] = False  # in the foreground
    mask[190:211, 190:211] = False
    mask[197:204, 197:204] = True  # nothing but foreground is left
    mask[353:357, 350] = False  # in the background
    result = run(image, predictions(xy), mask)
    bad, no_background, outside, twin, _, good = range(6)
    assert result.has_flag(Flag.FOREGROUND_INCLUDES_BAD_PIXELS)[[bad, outside]].all()
    assert result.has_flag(Flag.FAILED_DURING_BACKGROUND_MODELLING)[no_background]
    assert result.has_flag(Flag.OVERLAPPED_FG | Flag.DONT_INTEGRATE)[twin]
    np.testing.assert_array_equal(np.flatnonzero(result.has_flag(Flag.INTEGRATED_SUM)), [good])
    assert result["num_pixels.valid"][bad] == result["num_pixels.foreground"][bad] - 1
    assert result["intensity.sum.value"][good] == 0


def test_no_predictions() -> None:
    assert len(run(np.zeros((SIZE, SIZE), dtype=np.int32), predictions(np.zeros((0, 2))))) == 0


def test_radial_and_tangential_width() -> None:
    """Spots drawn out along the radius, indexed with a scatter of their own."""
    rng = np.random.default_rng(12)
    n = 3000
    xy = rng.uniform(10, SIZE - 10, size=(n, 2))
    panel = np.zeros(n, dtype=np.uint64)
    radial = radial_directions(panel, xy, DETECTOR, BEAM)
    centre = np.array([200.0, 200.0])
    expected = (xy - centre) / np.linalg.norm(xy - centre, axis=1, keepdims=True)
    np.testing.assert_allclose(radial, expected, atol=1e-9)
    tangential = np.column_stack([-radial[:, 1], radial[:, 0]])
    moments = 4.0 * radial[:, :, None] * radial[:, None, :] + 1.0 * tangential[:, :, None] * tangential[:, None, :]
    shift = 1.5 * rng.normal(size=(n, 1)) * radial + 0.5 * rng.normal(size=(n, 1)) * tangential
    wrong = rng.random(n) < 0.05
    shift[wrong] += 30
    indexed = ReflectionTable(
        {
            "panel": panel,
            "flags": np.full(n, Flag.USED_IN_REFINEMENT, dtype=np.uint64),
            "moments.px": np.column_stack([moments[:, 0, 0], moments[:, 0, 1], moments[:, 1, 1]]),
            "xyzcal.px": np.column_stack([xy - shift, np.zeros(n)]),
            "xyzobs.px.value": np.column_stack([xy, np.zeros(n)]),
        }
    )
    profile = estimate_profile(indexed, DETECTOR, BEAM, min_sigma_px=0.5)
    assert profile.radial_px == pytest.approx(np.hypot(2.0, 1.5), rel=0.05)
    assert profile.tangential_px == pytest.approx(np.hypot(1.0, 0.5), rel=0.05)
    shapes = foreground_shapes(
        predictions(np.array([[250.0, 200.0], [200.0, 270.0]])), profile, DETECTOR, BEAM, n_sigma=3
    )
    reach_x, reach_y = 1 / np.sqrt(shapes[:, 2]), 1 / np.sqrt(shapes[:, 4])
    np.testing.assert_allclose(reach_x, [3 * profile.radial_px, 3 * profile.tangential_px], rtol=1e-6)
    np.testing.assert_allclose(reach_y, [3 * profile.tangential_px, 3 * profile.radial_px], rtol=1e-6)


def test_significance_filter_cuts_from_the_first_weak_shell() -> None:
    s3 = np.linspace(0.001, 0.1, 1000)
    table = ReflectionTable(
        {
            "d": s3 ** (-1 / 3),
            "intensity.sum.value": np.where(s3 < 0.05, 10.0, 0.5),
            "intensity.sum.variance": np.ones(1000),
        }
    )
    kept = significant(table, SignificanceFilterConfig(n_bins=20, isigi_cutoff=1.0))
    assert s3[kept].max() == pytest.approx(0.05, abs=0.006)
    np.testing.assert_array_equal(kept, s3 <= s3[kept].max())
    assert significant(table, SignificanceFilterConfig(isigi_cutoff=0.1)).all()
