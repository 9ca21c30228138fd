"""NXmx files: geometry from chains of axes, every layout of pixels, spectra, damage."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from exafel.errors import ExafelError, FrameError, InputError
from exafel.io.geometry import Beam, Detector, rotation_matrix
from exafel.io.nxmx import NXmxSource
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.source import FrameSource


@pytest.fixture
def detector(models) -> Detector:
    return models.tilted_detector()


@pytest.fixture
def file(models, tmp_path: Path, detector: Detector) -> Path:
    path = tmp_path / "three.h5"
    with NXmxWriter(path, detector) as writer:
        for number in range(3):
            writer.append(models.random_frame(detector, number), models.beam_with_spectrum(0.001 * number))
    return path


def test_what_was_written_is_read_back(models, file, detector):
    source = NXmxSource(file)
    assert isinstance(source, FrameSource)
    assert len(source) == 3
    for number in (2, 0, 1):
        for ours, theirs in zip(source.frame(number), models.random_frame(detector, number), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        expected = models.beam_with_spectrum(0.001 * number)
        beam = source.beam(number)
        assert beam.wavelength_angstrom == pytest.approx(expected.wavelength_angstrom, rel=1e-15)
        assert beam.spectrum is not None
        np.testing.assert_allclose(beam.spectrum.wavelengths_angstrom, expected.spectrum.wavelengths_angstrom)
        np.testing.assert_array_equal(beam.spectrum.weights, expected.spectrum.weights)
        assert source.image(number).index == number
    for ours, panel in zip(source.detector(0).panels, detector.panels, strict=True):
        np.testing.assert_allclose(ours.origin_mm, panel.origin_mm, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.fast_axis, panel.fast_axis, rtol=0, atol=1e-15)
        np.testing.assert_allclose(ours.slow_axis, panel.slow_axis, rtol=0, atol=1e-15)
        assert ours.pixel_size_mm == pytest.approx(panel.pixel_size_mm, rel=1e-15)
        assert ours.trusted_range == panel.trusted_range
        assert ours.thickness_mm == panel.thickness_mm
    assert source.detector(1) is source.detector(0)


def test_masked_rectangles_become_the_pixel_mask(file):
    masks = NXmxSource(file).mask(0)
    assert masks is not None
    assert [int((~mask).sum()) for mask in masks] == [0, 4, 0]
    assert not masks[1][1:3, 2:4].any()


def test_a_source_is_pickled_without_its_open_file(file):
    source = NXmxSource(file)
    first = source.frame(1)
    copy = pickle.loads(pickle.dumps(source))
    for a, b in zip(first, copy.frame(1), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("compression", ["bitshuffle-lz4", "gzip", "none"])
@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float32, np.float64])
def test_types_and_compressions(models, tmp_path, compression, dtype):
    detector = models.tilted_detector(1)
    path = tmp_path / "a.h5"
    data = [array.astype(dtype) for array in models.random_frame(detector, 5)]
    with NXmxWriter(path, detector, n_images=4, compression=compression) as writer:
        writer.append(data, Beam(1.1))
    source = NXmxSource(path)
    assert len(source) == 1
    assert source.frame(0)[0].dtype == dtype
    np.testing.assert_array_equal(source.frame(0)[0], data[0])
    assert source.beam(0).spectrum is None
    assert source.mask(0) is None


@pytest.mark.parametrize("fraction", [0.5, 0.9, 1.0])
def test_polarization_is_kept(models, tmp_path, fraction):
    detector = models.tilted_detector(1)
    normal = rotation_matrix(np.array([0.0, 0.0, 1.0]), 0.3) @ [0.0, 1.0, 0.0]
    with NXmxWriter(tmp_path / "p.h5", detector) as writer:
        writer.append(
            models.random_frame(detector, 0), Beam(1.0, polarization_fraction=fraction, polarization_normal=normal)
        )
    beam = NXmxSource(tmp_path / "p.h5").beam(0)
    assert beam.polarization_fraction == pytest.approx(fraction)
    if fraction > 0.5:
        assert abs(beam.polarization_normal @ normal) == pytest.approx(1)


def test_a_failed_write_leaves_no_file(models, tmp_path, detector):
    path = tmp_path / "x.h5"

    def fail_after_a_frame() -> None:
        with NXmxWriter(path, detector) as writer:
            writer.append(models.random_frame(detector, 0), Beam(1.0))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_after_a_frame()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExafelError, match="no frames"):
        NXmxWriter(path, detector).close()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_refuses_what_the_format_cannot_hold(models, tmp_path, detector):
    mixed = Detector((detector[0], replace(detector[1], trusted_range=(0.0, 1.0))))
    with pytest.raises(ValueError, match="differ"):
        NXmxWriter(tmp_path / "a.h5", mixed)
    writer = NXmxWriter(tmp_path / "b.h5", detector)
    with pytest.raises(ValueError, match="shapes"):
        writer.append(models.random_frame(detector, 0)[:2], Beam(1.0))
    writer.append(models.random_frame(detector, 0), models.beam_with_spectrum())
    with pytest.raises(ValueError, match="or none"):
        writer.append(models.random_frame(detector, 0), Beam(1.0))
    with pytest.raises(ValueError, match="channels"):
        writer.append(models.random_frame(detector, 0), models.beam_with_spectrum(channels=6))
    writer.abandon()


def _minimal(path: Path, data: dict[str, np.ndarray], modules: dict[str, tuple[list[int], list[int]]]) -> None:
    """Write an NXmx file by hand: modules on a turned arm, pixels in any layout."""
    with h5py.File(path, "w") as handle:
        handle.create_group("entry").attrs["NX_class"] = "NXentry"
        handle["entry/definition"] = "NXmx"
        for name, kind in (("data", "NXdata"), ("instrument", "NXinstrument"), ("instrument/beam", "NXbeam")):
            handle.create_group(f"entry/{name}").attrs["NX_class"] = kind
        handle["entry/instrument/beam/incident_wavelength"] = 0.13
        handle["entry/instrument/beam/incident_wavelength"].attrs["units"] = "nm"
        for name, values in data.items():
            handle[f"entry/data/{name}"] = values
        detector = handle.create_group("entry/instrument/ELE")
        detector.attrs["NX_class"] = "NXdetector"
        detector["sensor_thickness"] = 320.0
        detector["sensor_thickness"].attrs["units"] = "um"
        detector["sensor_material"] = "Silicon"
        arm = detector.create_group("transformations")
        arm.attrs["NX_class"] = "NXtransformations"
        _axis(arm, "distance", 0.09, "m", "translation", [0, 0, 1], ".")
        _axis(arm, "two_theta", 30.0, "deg", "rotation", [0, 1, 0], "distance")
        for name, (origin, size) in modules.items():
            module = detector.create_group(name)
            module.attrs["NX_class"] = "NXdetector_module"
            module["data_origin"], module["data_size"] = origin, size
            target = "/entry/instrument/ELE/transformations/two_theta"
            _axis(module, "fast_pixel_direction", 75.0, "um", "translation", [-1, 0, 0], target, [4.0, 5.0, 0.5], "mm")
            _axis(module, "slow_pixel_direction", 0.075, "mm", "translation", [0, -2, 0], target)


def _axis(group, name, value, units, kind, vector, depends_on, offset=None, offset_units=None) -> None:
    group[name] = np.array([value])
    attributes = group[name].attrs
    attributes["units"], attributes["transformation_type"] = units, kind
    attributes["vector"], attributes["depends_on"] = vector, depends_on
    if offset is not None:
        attributes["offset"], attributes["offset_units"] = offset, offset_units


def test_a_chain_of_axes_by_hand(tmp_path):
    path = tmp_path / "arm.h5"
    _minimal(path, {"data": np.zeros((2, 6, 8), np.int32)}, {"m": ([0, 0], [6, 8])})
    source = NXmxSource(path)
    panel = source.detector(0)[0]
    # By hand: the arm turns by 30 deg about y at the sample's x, y, 90 mm downstream; x and z change sign for dxtbx.
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    expected = np.array([c * 4.0 + s * 0.5, 5.0, -s * 4.0 + c * 0.5 + 90.0]) * [-1, 1, -1]
    np.testing.assert_allclose(panel.origin_mm, expected, rtol=1e-14)
    np.testing.assert_allclose(panel.fast_axis, [c, 0, -s], atol=1e-15)
    np.testing.assert_allclose(panel.slow_axis, [0, -1, 0], atol=1e-15)
    assert panel.pixel_size_mm == pytest.approx((0.075, 0.075))
    assert panel.thickness_mm == pytest.approx(0.32)
    assert panel.material == "Si"
    assert source.beam(1).wavelength_angstrom == pytest.approx(1.3)
    assert panel.mu_per_mm == pytest.approx(9.05792, rel=1e-5)  # printed by dxtbx for Si at 1.3 A


def test_every_layout_of_modules_gives_the_same_frames(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 99, (2, 2, 4, 5)).astype(np.int32)
    stacked, deep, apart = (tmp_path / f"{name}.h5" for name in ("stacked", "deep", "apart"))
    _minimal(stacked, {"data": pixels.reshape(2, 8, 5)}, {"a": ([0, 0], [4, 5]), "b": ([4, 0], [4, 5])})
    _minimal(deep, {"data": pixels}, {"a": ([0, 0, 0], [1, 4, 5]), "b": ([1, 0, 0], [1, 4, 5])})
    _minimal(apart, {"a": pixels[:, 0], "b": pixels[:, 1]}, {"a": ([0, 0], [4, 5]), "b": ([0, 0], [4, 5])})
    for path in (stacked, deep, apart):
        source = NXmxSource(path)
        for number in range(2):
            for panel in range(2):
                np.testing.assert_array_equal(source.frame(number)[panel], pixels[number, panel])


def test_virtual_data_sets_and_external_links(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 99, (5, 4, 5)).astype(np.uint16)
    for number, part in enumerate((pixels[:3], pixels[3:]), start=1):
        with h5py.File(tmp_path / f"run_data_{number:06d}.h5", "w") as handle:
            handle["data"] = part
    linked, virtual = tmp_path / "run_master.h5", tmp_path / "virtual.h5"
    _minimal(linked, {}, {"a": ([0, 0], [4, 5])})
    with h5py.File(linked, "a") as handle:
        for number in (1, 2):
            handle[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(f"run_data_{number:06d}.h5", "/data")
    _minimal(virtual, {}, {"a": ([0, 0], [4, 5])})
    with h5py.File(virtual, "a") as handle:
        layout = h5py.VirtualLayout((5, 4, 5), np.uint16)
        layout[:3] = h5py.VirtualSource(tmp_path / "run_data_000001.h5", "data", (3, 4, 5))
        layout[3:] = h5py.VirtualSource(tmp_path / "run_data_000002.h5", "data", (2, 4, 5))
        handle["entry/data"].create_virtual_dataset("data", layout)
    for path in (linked, virtual):
        source = NXmxSource(path)
        assert len(source) == 5
        for number in (4, 2, 3):
            np.testing.assert_array_equal(source.frame(number)[0], pixels[number])
        # no saturation value: the two largest values of 16 bits mark bad pixels
        assert source.detector(0)[0].trusted_range[1] == 2**16 - 3


def test_a_missing_linked_file_costs_a_clear_line(tmp_path):
    path = tmp_path / "m.h5"
    _minimal(path, {}, {"a": ([0, 0], [4, 5])})
    with h5py.File(path, "a") as handle:
        handle["entry/data/data_000001"] = h5py.ExternalLink("gone.h5", "/data")
    with pytest.raises(InputError, match="no images in /entry/data"):
        NXmxSource(path)


def test_a_spectrum_without_a_wavelength_beside_it_gives_its_mean(tmp_path):
    path = tmp_path / "s.h5"
    _minimal(path, {"data": np.zeros((2, 4, 5), np.int32)}, {"a": ([0, 0], [4, 5])})
    with h5py.File(path, "a") as handle:
        beam = handle["entry/instrument/beam"]
        del beam["incident_wavelength"]
        beam["incident_wavelength"] = np.array([1.0, 1.2])
        beam["incident_wavelength_weights"] = np.array([[1.0, 1.0], [0.0, 2.0]])
    source = NXmxSource(path)
    assert source.beam(0).wavelength_angstrom == pytest.approx(2 / (1 / 1.0 + 1 / 1.2))
    assert source.beam(1).wavelength_angstrom == pytest.approx(1.2)


def test_a_moving_axis_gives_every_frame_its_own_detector(tmp_path):
    path = tmp_path / "scan.h5"
    _minimal(path, {"data": np.zeros((2, 4, 5), np.int32)}, {"a": ([0, 0], [4, 5])})
    with h5py.File(path, "a") as handle:
        arm = handle["entry/instrument/ELE/transformations"]
        del arm["distance"]
        _axis(arm, "distance", 0.0, "mm", "translation", [0, 0, 1], ".")
        attributes = dict(arm["distance"].attrs)
        del arm["distance"]
        arm["distance"] = np.array([90.0, 91.5])
        arm["distance"].attrs.update(attributes)
    source = NXmxSource(path)
    shift = source.detector(1)[0].origin_mm - source.detector(0)[0].origin_mm
    np.testing.assert_allclose(shift, [0, 0, -1.5], atol=1e-12)


def test_a_damaged_chunk_costs_only_its_frame(file):
    with h5py.File(file) as handle:
        chunk = handle["entry/data/data"].id.get_chunk_info(1)  # a panel of the first frame
    with file.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    source = NXmxSource(file)
    with pytest.raises(FrameError, match=r"three\.h5\[0\]: cannot read the frame"):
        source.frame(0)
    assert len(source.frame(1)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("entry/definition"), "no NXentry with the definition NXmx"),
        (lambda f: f.__delitem__("entry/instrument/beam"), "no NXbeam"),
        (lambda f: f.__delitem__("entry/instrument/detector"), "no NXdetector_module"),
        (lambda f: f.__delitem__("entry/data"), "no NXdata"),
        (lambda f: f.__delitem__("entry/instrument/detector/transformations/AXIS_0001"), "AXIS_0001 is not there"),
        (lambda f: f.__delitem__("entry/instrument/detector/module_0000/data_size"), "no data_size"),
        (lambda f: f["entry/instrument/detector/module_0002/data_origin"].write_direct(np.array([99, 0])), "beyond"),
        (
            lambda f: f["entry/instrument/detector/transformations/AXIS_0001"].attrs.__setitem__("units", "furlong"),
            "unknown units 'furlong'",
        ),
        (
            lambda f: f["entry/instrument/detector/transformations/AXIS_DETECTOR"].attrs.__setitem__(
                "depends_on", "AXIS_0000"
            ),
            "circle",
        ),
    ],
)
def test_what_is_missing_is_named(file, change, message):
    with h5py.File(file, "a") as handle:
        change(handle)
    with pytest.raises(InputError, match=message):
        NXmxSource(file)


@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_file_costs_a_clear_line(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"three\.h5: damaged or not HDF5: ") as caught:
        NXmxSource(file)
    assert "\n" not in str(caught.value)


def test_frames_out_of_range(file):
    source = NXmxSource(file)
    for call in (source.frame, source.beam, source.mask, source.image):
        with pytest.raises(IndexError):
            call(3)
        with pytest.raises(IndexError):
            call(-1)
