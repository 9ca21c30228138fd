"""The extended and the radial threshold against plain implementations, statistics of noise, and real DIALS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from exafel.config.spotfinding import SpotFindingConfig
from exafel.config.workflow import load_workflow_config
from exafel.io.frames import open_frames
from exafel.io.geometry import Beam, Detector, Panel
from exafel.stills.pixels import kernel_pixels
from exafel.stills.reader import ShotReader
from exafel.stills.spotfinding import find_spots, spot_resolution_limit
from exafel.stills.strong_pixels import dispersion_strong_pixels, ring_numbers, strong_pixels_of_shot

ROOT = Path(__file__).resolve().parents[2]
BEAM = Beam(wavelength_angstrom=1.0)


def window_sum(values: np.ndarray, half: tuple[int, int]) -> np.ndarray:
    window = np.ones((2 * half[1] + 1, 2 * half[0] + 1), dtype=np.int64)
    return ndimage.convolve(values.astype(np.int64), window, mode="constant")


def reference_extended(image: np.ndarray, mask: np.ndarray, config: SpotFindingConfig, gain: float) -> np.ndarray:
    """The definition of the extended threshold, with whole numbers and scipy's morphology."""
    n, total, squares = (window_sum(part, config.kernel_size) for part in (mask, mask * image, mask * image**2))
    with np.errstate(invalid="ignore"):
        limit = gain * total * (n - 1 + config.sigma_background * np.sqrt(2.0 * (n - 1)))
    dispersed = ~mask | ((n >= config.min_local) & (total >= 0) & (n * squares - total**2 > limit))
    size = 2 * min(config.kernel_size) - 1
    region = ndimage.binary_erosion(dispersed, np.ones((size, size)), border_value=1) & mask
    wide = (config.kernel_size[0] + 2, config.kernel_size[1] + 2)
    m, x = (window_sum(part, wide) for part in (mask & ~region, (mask & ~region) * image))
    mean = np.where(m >= 2, x / np.maximum(m, 1), 0.0)
    with np.errstate(invalid="ignore"):
        high = image >= mean + config.sigma_strong * np.sqrt(gain * mean)
    return region & (x >= 0) & high & (image > config.global_threshold)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "gain"), [((3, 3), 1.0), ((2, 4), 2.5), ((5, 1), 1.0)])
def test_extended_threshold_is_its_definition(dtype: type, kernel: tuple[int, int], gain: float) -> None:
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:93, :121]
    model = rng.uniform(0.2, 9, size=(1, 121)) + sum(
        rng.uniform(5, 300) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / rng.uniform(2, 30))
        for x, y in rng.uniform(0, 120, size=(40, 2))
    )
    image = rng.poisson(model)
    mask = rng.random(image.shape) > 0.03
    config = SpotFindingConfig(
        algorithm="dispersion_extended", kernel_size=kernel, sigma_background=3, global_threshold=1
    )
    found = dispersion_strong_pixels(image.astype(dtype), mask, config, gain=gain)
    expected = np.flatnonzero(reference_extended(image, mask, config, gain))
    assert len(expected) > 100
    np.testing.assert_array_equal(found, expected)


def test_extended_threshold_keeps_a_spot_larger_than_the_window() -> None:
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:60, :60]
    image = rng.poisson(2 + 200 * np.exp(-((columns - 30) ** 2 + (rows - 30) ** 2) / 60)).astype(np.int32)
    mask = np.ones(image.shape, dtype=bool)
    plain, extended = (
        len(dispersion_strong_pixels(image, mask, SpotFindingConfig(algorithm=name), gain=1.0))
        for name in ("dispersion", "dispersion_extended")
    )
    assert extended > 400
    assert plain < 20


def square(size: int = 300, n_panels: int = 1) -> Detector:
    half = size / 20
    panels = tuple(
        Panel(
            name=f"p{number}",
            origin_mm=[-half + number * (2 * half + 1), half, -80.0],
            fast_axis=[1.0, 0.0, 0.0],
            slow_axis=[0.0, -1.0, 0.0],
            pixel_size_mm=(0.1, 0.1),
            image_size=(size, size),
            trusted_range=(-10.0, 60000.0),
        )
        for number in range(n_panels)
    )
    return Detector(panels)


def test_rings_are_whole_circles_over_all_panels() -> None:
    detector = square(n_panels=2)
    rings = ring_numbers(detector, BEAM, 2.0)
    for ring, panel in zip(rings, detector.panels, strict=True):
        x = panel.origin_mm[0] + (np.arange(300) + 0.5) * 0.1
        y = panel.origin_mm[1] - (np.arange(300)[:, None] + 0.5) * 0.1
        two_theta = np.arctan2(np.hypot(x, y), 80.0)
        np.testing.assert_allclose(ring, two_theta * 80.0 / 0.2, atol=1.001)
        assert (ring <= two_theta * 80.0 / 0.2 + 1e-3).all()
    assert ring_numbers(detector, BEAM, 2.0)[0] is rings[0]  # kept as long as the detector
    assert ring_numbers(detector, BEAM, 1.0)[0].max() > 1.9 * rings[0].max()


def test_radial_threshold_calls_strong_what_stands_out_of_its_ring() -> None:
    rng = np.random.default_rng(3)
    detector = square()
    rows, columns = np.mgrid[:300, :300] + 0.5
    radius = np.hypot(columns - 150, rows - 150)
    background = 20 + 400 * np.exp(-(((radius - 60) / 8) ** 2))  # a steep ring of the solvent
    truth = rng.uniform(-8, 8, size=(36, 2)) + 25 + 50 * np.stack(np.meshgrid(range(6), range(6)), -1).reshape(-1, 2)
    spots = sum(200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2) for x, y in truth)
    image = rng.poisson(background + spots).astype(np.int32)
    mask = np.ones(image.shape, dtype=bool)
    config = SpotFindingConfig(algorithm="radial", sigma_strong=5, min_spot_size=3)
    found = find_spots([image], [mask], detector, BEAM, config)
    distance = np.linalg.norm(found["xyzobs.px.value"][:, None, :2] - truth, axis=2)
    assert (distance.min(axis=0) < 1.0).sum() >= 35
    assert (distance.min(axis=1) < 1.5).mean() > 0.95
    noise = rng.poisson(background).astype(np.int32)
    strong = strong_pixels_of_shot([noise], [mask], detector, BEAM, config.model_copy(update={"sigma_strong": 4.0}))
    assert len(strong[0]) < 30  # of 90,000 pixels; a Poisson law of 20 counts exceeds 4 sigma with 2e-4


def test_radial_threshold_ignores_masked_pixels_and_needs_full_rings() -> None:
    rng = np.random.default_rng(4)
    detector = square()
    image = rng.poisson(9, size=(300, 300)).astype(np.float32)
    mask = rng.random(image.shape) > 0.2
    image[~mask] = np.nan
    image[149:151, 149:151] = 5000  # rings of a few pixels only
    image[10, 20] = 500
    mask[10, 20] = True
    config = SpotFindingConfig(algorithm="radial", sigma_strong=8)
    strong = strong_pixels_of_shot([image], [mask], detector, BEAM, config)[0]
    assert strong.tolist() == [10 * 300 + 20]


def test_snr_and_resolution_of_spots() -> None:
    rng = np.random.default_rng(6)
    detector = square()
    rows, columns = np.mgrid[:300, :300] + 0.5
    truth = rng.uniform(15, 285, size=(60, 2))
    heights = rng.uniform(5, 200, size=60)
    spots = sum(
        h * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2) for (x, y), h in zip(truth, heights, strict=True)
    )
    image = rng.poisson(5 + spots).astype(np.int32)
    masks = [np.ones(image.shape, dtype=bool)]
    everything = find_spots([image], masks, detector, BEAM, SpotFindingConfig())
    kept = find_spots([image], masks, detector, BEAM, SpotFindingConfig(min_snr=12))
    ratio = everything["intensity.sum.value"] / np.sqrt(everything["intensity.sum.variance"])
    assert 0 < len(kept) < len(everything)
    assert len(kept) == np.count_nonzero(ratio >= 12)
    assert spot_resolution_limit(np.array([])) is None
    limit = spot_resolution_limit(np.append(np.full(99, 4.0), 1.0))  # one false spot far out
    assert limit == pytest.approx(4.0)


PEER = """
import sys
import numpy as np
from dials.algorithms.image.threshold import DispersionExtendedThreshold
from dials.array_family import flex
pixels = np.load(sys.argv[1])
gain, low, kernel, strong = (float(word) for word in sys.argv[3:])
masks = {}
for number in range(len(pixels.files) // 2):
    image = flex.double(pixels[f"frame{number}"].astype(np.float64))
    mask = flex.bool(pixels[f"mask{number}"])
    result = flex.bool(image.accessor(), False)
    threshold = DispersionExtendedThreshold(image.all(), (int(kernel), int(kernel)), 6, strong, low, 2)
    threshold(image, mask, flex.double(image.accessor(), gain), result)
    masks[f"strong{number}"] = result.as_numpy_array()
np.savez(sys.argv[2], **masks)
"""


@pytest.mark.dials
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "images", "number"),
    [
        ("cspad_thermolysin", "cspad_thermolysin", 0),
        ("thaumatin_pilatus", "thaumatin_grid", 2),
        ("lysozyme_stills", "lysozyme_stills/lysozyme_stills.h5", 0),
    ],
)
def test_extended_threshold_is_that_of_dials(
    shared_data: Path, dials: Path, tmp_path: Path, example: str, images: str, number: int
) -> None:
    stills = load_workflow_config(ROOT / "workflows" / "config" / "examples" / f"{example}.yaml").stills
    config = stills.spotfinding.model_copy(update={"algorithm": "dispersion_extended"})
    shot = ShotReader(open_frames([shared_data / images]), stills.geometry).read(number)
    frames = [kernel_pixels(frame) for frame in shot.frames]
    arrays = {f"frame{n}": frame for n, frame in enumerate(frames)}
    arrays |= {f"mask{n}": mask for n, mask in enumerate(shot.masks)}
    np.savez(tmp_path / "pixels.npz", **arrays)
    words = [config.gain, config.global_threshold, config.kernel_size[0], config.sigma_strong]
    command = [dials / "dxtbx.python", "-c", PEER, tmp_path / "pixels.npz", tmp_path / "strong.npz", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)
    theirs = np.load(tmp_path / "strong.npz")
    compared = 0
    for n, found in enumerate(strong_pixels_of_shot(frames, shot.masks, shot.detector, shot.beam, config)):
        ours = np.zeros(frames[n].shape, dtype=bool)
        ours.flat[found] = True
        # This release of DIALS counts masked pixels in the local mean, so only pixels clear of them are compared.
        reach = 2 * (2 * config.kernel_size[0] + 2) + 1
        inside = ndimage.binary_erosion(shot.masks[n], np.ones((reach, reach)), border_value=1)
        np.testing.assert_array_equal(ours[inside], theirs[f"strong{n}"][inside])
        compared += np.count_nonzero(ours & inside)
    assert compared > 50
