"""Spot finding against a plain implementation of the same formulas, closed forms and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from exafel.config.base import validate
from exafel.config.spotfinding import SpotFindingConfig
from exafel.errors import ConfigError, FrameError
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.reflections import Flag
from exafel.stills.masks import good_masks
from exafel.stills.spotfinding import find_spots
from exafel.stills.strong_pixels import dispersion_strong_pixels as strong_pixels

BEAM = Beam(wavelength_angstrom=1.0)


def make_detector(n_panels: int = 1, size: tuple[int, int] = (80, 60)) -> Detector:
    panels = tuple(
        Panel(
            name=f"p{number}",
            origin_mm=[-4.0 + 9 * number, 3.0, -100.0],
            fast_axis=[1.0, 0.0, 0.0],
            slow_axis=[0.0, -1.0, 0.0],
            pixel_size_mm=(0.1, 0.1),
            image_size=size,
            trusted_range=(-10.0, 60000.0),
        )
        for number in range(n_panels)
    )
    return Detector(panels)


def gaussian_spot(shape: tuple[int, int], x: float, y: float, counts: float, sigma: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return counts / (2 * np.pi * sigma**2) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def reference_strong(image: np.ndarray, mask: np.ndarray, config: SpotFindingConfig, gain: float) -> np.ndarray:
    """The formulas of the dispersion threshold, window by window, with whole numbers."""
    values = np.where(mask, image, 0).astype(np.int64)
    window = np.ones((2 * config.kernel_size[1] + 1, 2 * config.kernel_size[0] + 1), dtype=np.int64)
    n = ndimage.convolve(mask.astype(np.int64), window, mode="constant")
    total = ndimage.convolve(values, window, mode="constant")
    squares = ndimage.convolve(values**2, window, mode="constant")
    enough = n >= config.min_local
    safe = np.maximum(n, 2)
    mean = total / safe
    variance = (squares - total**2 / safe) / (safe - 1)
    spread = variance > mean * gain * (1 + config.sigma_background * np.sqrt(2 / (safe - 1))) * (1 + 1e-12)
    with np.errstate(invalid="ignore"):
        strong = image > mean + config.sigma_strong * np.sqrt(gain * mean)
    return mask & enough & (total >= 0) & spread & strong & (image > config.global_threshold)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "gain"), [((3, 3), 1.0), ((1, 4), 2.5), ((7, 2), 1.0)])
def test_strong_pixels_are_those_of_the_formulas(dtype: type, kernel: tuple[int, int], gain: float) -> None:
    rng = np.random.default_rng(5)
    shape = (93, 121)
    model = rng.uniform(0.2, 9, size=(1, shape[1])) + sum(
        gaussian_spot(shape, *rng.uniform(0, 120, size=2), rng.uniform(20, 3000)) for _ in range(60)
    )
    image = rng.poisson(model).astype(dtype)
    mask = rng.random(shape) > 0.1
    config = SpotFindingConfig(kernel_size=kernel, sigma_background=3, global_threshold=1)
    found = strong_pixels(image, mask, config, gain=gain)
    expected = np.flatnonzero(reference_strong(image, mask, config, gain))
    assert len(expected) > 100
    np.testing.assert_array_equal(found, expected)


def test_negative_counts_and_empty_windows_are_no_signal() -> None:
    image = np.full((20, 20), -3, dtype=np.int32)
    image[10, 10] = 40
    mask = np.ones(image.shape, dtype=bool)
    config = SpotFindingConfig(min_spot_size=1)
    assert len(strong_pixels(image, mask, config, gain=1.0)) == 0  # the window's sum is negative
    assert len(strong_pixels(np.zeros_like(image), mask, config, gain=1.0)) == 0
    assert len(strong_pixels(image, np.zeros_like(mask), config, gain=1.0)) == 0


def test_float_frames_with_masked_nan() -> None:
    rng = np.random.default_rng(2)
    image = rng.poisson(3 + gaussian_spot((60, 80), 30.3, 20.6, 900)).astype(np.float32)
    image[21, 35] = np.nan
    detector = make_detector()
    spots = find_spots([image], good_masks([image], detector), detector, BEAM, SpotFindingConfig())
    assert len(spots) == 1


@pytest.mark.parametrize("dtype", ["u2", ">u2", "u4", "i2", "i4", ">i4", "i8", "u8", "f2", "f4", ">f4", "f8"])
def test_spots_do_not_depend_on_how_pixels_are_stored(dtype: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.poisson(3 + gaussian_spot((60, 80), 30.3, 20.6, 900))
    detector = make_detector()
    strided = np.zeros((120, 160), dtype=dtype)
    strided[::2, ::2] = image
    layouts = [image.astype(np.int32), image.astype(dtype), np.asfortranarray(image.astype(dtype)), strided[::2, ::2]]
    first, *others = [
        find_spots([frame], good_masks([frame], detector), detector, BEAM, SpotFindingConfig()) for frame in layouts
    ]
    assert len(first) == 1
    for other in others:
        for name in ("xyzobs.px.value", "intensity.sum.value", "bbox"):
            np.testing.assert_array_equal(other[name], first[name])


@pytest.mark.parametrize(
    ("connectivity", "structure"), [(8, np.ones((3, 3))), (4, ndimage.generate_binary_structure(2, 1))]
)
def test_spots_are_the_connected_groups(connectivity: int, structure: np.ndarray) -> None:
    rng = np.random.default_rng(11)
    detector = make_detector()
    image = rng.poisson(2 + sum(gaussian_spot((60, 80), *rng.uniform(4, 56, 2), 600) for _ in range(25))).astype(
        np.int32
    )
    mask = good_masks([image], detector)
    config = SpotFindingConfig(min_spot_size=1, max_separation=100, connectivity=connectivity)
    spots = find_spots([image], mask, detector, BEAM, config)
    strong = np.zeros(image.shape, dtype=bool)
    strong.flat[strong_pixels(image, mask[0], config, gain=1.0)] = True
    labels, count = ndimage.label(strong, structure=structure)
    assert len(spots) == count
    np.testing.assert_array_equal(np.sort(spots["n_signal"]), np.sort(np.bincount(labels.ravel())[1:]))
    boxes = {(x.start, x.stop, y.start, y.stop) for y, x in ndimage.find_objects(labels)}
    assert {tuple(int(v) for v in box[:4]) for box in spots["bbox"]} == boxes


@pytest.mark.parametrize(("counts", "sigma"), [(4000, 1.2), (500, 1.2), (150, 0.8)])
def test_centroid_and_intensity_scatter_as_their_variances_say(counts: float, sigma: float) -> None:
    detector = make_detector(size=(40, 40))
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(200):
        x, y = rng.uniform(18, 22, size=2)
        image = rng.poisson(5 + gaussian_spot((40, 40), x, y, counts, sigma)).astype(np.int32)
        spots = find_spots([image], good_masks([image], detector), detector, BEAM, SpotFindingConfig())
        assert len(spots) == 1
        offset = spots["xyzobs.px.value"][0] - (x, y, 0.5)
        rows.append([*offset, *spots["xyzobs.px.variance"][0, :2], spots["intensity.sum.value"][0],
                     spots["intensity.sum.variance"][0]])  # fmt: skip
    dx, dy, dz, variance_x, variance_y, intensity, variance = np.array(rows).T
    assert abs(dx.mean()) < 4 * np.sqrt(dx.var() / 200) + 0.002
    assert abs(dy.mean()) < 4 * np.sqrt(dy.var() / 200) + 0.002
    assert np.all(dz == 0)
    assert 0.7 < dx.var() / variance_x.mean() < 1.8
    assert 0.7 < dy.var() / variance_y.mean() < 1.8
    assert intensity.mean() == pytest.approx(counts, rel=0.1)  # the far tails are lost
    assert 0.7 < intensity.var() / variance.mean() < 1.5


def test_spots_do_not_cross_panels_and_carry_flags() -> None:
    detector = make_detector(2)
    frames = [np.full((60, 80), 4, dtype=np.int32) for _ in range(2)]
    frames[0][30:33, 78:80] = 500
    frames[1][30:33, 0:2] = 500
    frames[1][10:14, 40:44] = [[300, 900, 900, 300]] * 4
    frames[1][11, 41] = 70000
    spots = find_spots(frames, good_masks(frames, detector), detector, BEAM, SpotFindingConfig())
    np.testing.assert_array_equal(spots["panel"], [0, 1, 1])
    assert spots.has_flag(Flag.STRONG).all()
    np.testing.assert_array_equal(spots.has_flag(Flag.OVERLOADED), [False, True, False])
    np.testing.assert_array_equal(spots["id"], [-1, -1, -1])
    assert spots["panel"].dtype == np.uint64
    assert spots["bbox"].dtype == np.int32


def test_filters() -> None:
    detector = make_detector(size=(400, 300))
    image = np.full((300, 400), 4, dtype=np.int32)
    rng = np.random.default_rng(0)
    image = rng.poisson(image + sum(gaussian_spot((300, 400), x, 150, 900) for x in range(20, 400, 20))).astype(
        np.int32
    )
    masks = good_masks([image], detector)

    def found(**parameters: object) -> np.ndarray:
        config = validate(SpotFindingConfig, parameters)
        return find_spots([image], masks, detector, BEAM, config)["d"]

    everything = found()
    limits = np.quantile(everything, [0.3, 0.8])
    inside = found(d_min=limits[0], d_max=limits[1])
    np.testing.assert_array_equal(inside, everything[(everything >= limits[0]) & (everything <= limits[1])])
    assert len(found(min_spot_size=200, max_spot_size=1000)) == 0
    ice = np.array([3.895, 3.669, 3.441])
    rings = found(ice_ring_width=0.002)
    assert np.abs(1 / rings[:, None] ** 2 - 1 / ice**2).min() > 0.0009
    with pytest.raises(FrameError, match="strong"):
        found(max_strong_pixel_fraction=1e-4)


def test_a_frame_of_the_wrong_shape_is_named() -> None:
    detector = make_detector(2)
    with pytest.raises(FrameError, match="panels"):
        good_masks([np.zeros((60, 80))], detector)
    with pytest.raises(FrameError, match="p1"):
        good_masks([np.zeros((60, 80)), np.zeros((80, 60))], detector)


@pytest.mark.parametrize(
    "parameters",
    [{"kernel_size": (0, 3)}, {"min_spot_size": 9, "max_spot_size": 3}, {"d_min": 3.0, "d_max": 2.0},
     {"algorithm": "disperse"}],
)  # fmt: skip
def test_impossible_parameters_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        validate(SpotFindingConfig, parameters)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 30))
def test_masked_pixels_never_matter(seed: int, n_masked: int, value: int) -> None:
    rng = np.random.default_rng(seed)
    detector = make_detector(size=(40, 30))
    image = rng.poisson(3 + gaussian_spot((30, 40), 20.2, 15.1, 700)).astype(np.int32)
    mask = np.ones(image.shape, dtype=bool)
    chosen = rng.choice(image.size, n_masked, replace=False)
    mask.flat[chosen] = False
    other = image.copy()
    other.flat[chosen] = value * 1000
    first, second = (
        find_spots([frame], [mask], detector, BEAM, SpotFindingConfig(min_spot_size=1)) for frame in (image, other)
    )
    np.testing.assert_array_equal(first["xyzobs.px.value"], second["xyzobs.px.value"])
    np.testing.assert_array_equal(first["intensity.sum.value"], second["intensity.sum.value"])
