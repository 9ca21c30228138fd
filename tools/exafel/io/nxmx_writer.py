"""Writing frames as NXmx HDF5 files that this package, and DIALS, read back with the same geometry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import h5py
import hdf5plugin
import numpy as np

import exafel
from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.errors import ExafelError, InputError
from exafel.io.geometry import Beam, Detector, Panel, Spectrum
from exafel.io.nexus_geometry import MCSTAS_TO_LAB

Compression = Literal["bitshuffle-lz4", "gzip", "none"]

_SPECTRUM = "incident_wavelength_1Dspectrum"
_DATA = "/entry/data/data"
_PER_FRAME = (
    _DATA,
    "/entry/instrument/beam/incident_wavelength",
    f"/entry/instrument/beam/{_SPECTRUM}",
    f"/entry/instrument/beam/{_SPECTRUM}_weights",
)
_TRANSFORMATIONS = "/entry/instrument/detector/transformations"


class NXmxWriter:
    """Writes one NXmx file, frame by frame; it appears under its name when it is closed, whole.

    The panels of a detector stand one below the other in one data set of shape (n, slow, fast), and each has an
    NXdetector_module that says which rows are its own. Wavelengths and spectra are kept a frame.

    Parameters
    ----------
    path
        The file; it is written as ``.<name>.part`` until `close`.
    detector
        All panels have the same sensor and trusted range, since NXmx says them once a detector.
    n_images
        Number of frames to make room for, where it is known; fewer or more can follow.
    compression
        How the pixels are packed. ``bitshuffle-lz4`` is fast; ``gzip`` needs no plugin of the reader.
    mask
        Good pixels, one array of shape (slow, fast) a panel; the panels' masked rectangles are added to it.
    name
        Name of the instrument.

    Raises
    ------
    ValueError
        The panels differ in what NXmx says once.
    ExafelError
        The file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        detector: Detector,
        n_images: int | None = None,
        compression: Compression = "bitshuffle-lz4",
        *,
        mask: Sequence[BoolArray] | None = None,
        name: str = "exafel",
    ) -> None:
        _check_uniform(detector)
        self.path = path
        self._detector = detector
        self._count = 0
        self._room = n_images or 0
        self._filter = _filter(compression)
        self._part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._part, "w", libver="v110")
        except OSError as error:
            raise ExafelError(f"cannot write: {error}", where=path) from error
        self._rows = np.cumsum([0, *(panel.image_size[1] for panel in detector.panels)])
        self._frame_shape = (int(self._rows[-1]), max(panel.image_size[0] for panel in detector.panels))
        _write_skeleton(self._file, name)
        self._write_detector(mask)

    def append(self, panels: Sequence[AnyArray], beam: Beam) -> None:
        """Add a frame.

        Parameters
        ----------
        panels
            Pixels, one array of shape (slow, fast) a panel; the first frame sets the type of all.
        beam
            Its wavelength, and its spectrum if it has one; all frames of a file have as many channels, or none.

        Raises
        ------
        ValueError
            The shapes are not those of the detector, or the spectrum does not fit those before.
        ExafelError
            The disk is full.
        """
        if [np.shape(data) for data in panels] != [panel.shape for panel in self._detector.panels]:
            raise ValueError("the arrays do not have the shapes of the panels")
        frame = self._assemble(panels)
        try:
            if self._count == 0:
                self._create(frame.dtype, beam)
            self._put(_DATA, frame)
            self._put("/entry/instrument/beam/incident_wavelength", beam.wavelength_angstrom)
            self._put_spectrum(beam)
        except OSError as error:
            raise ExafelError(f"cannot write: {error}", where=self.path) from error
        self._count += 1

    def append_file(self, path: Path, beam: Beam) -> None:
        """Add all frames of a file that another writer made of the same detector, packed as they are.

        Parameters
        ----------
        path
            The file.
        beam
            A beam with the file's polarization; wavelengths and spectra are the file's.

        Raises
        ------
        InputError
            The file is damaged.
        ExafelError
            The disk is full.
        """
        try:
            source = h5py.File(path, "r")
        except OSError as error:
            raise InputError(f"damaged or not HDF5: {error}", where=path) from error
        with source:
            names = [name for name in _PER_FRAME if name in source]
            data = source[_DATA]
            if self._count == 0:
                self._create(data.dtype, replace(beam, spectrum=_first_spectrum(source)))
            first, last = self._count, self._count + len(data)
            try:
                for name in names:
                    if len(self._file[name]) < last:
                        self._file[name].resize(last, axis=0)
                    if name != _DATA:
                        self._file[name][first:last] = source[name][()]
                for number in range(data.id.get_num_chunks()):
                    offset = data.id.get_chunk_info(number).chunk_offset
                    mask, packed = data.id.read_direct_chunk(offset)
                    self._file[_DATA].id.write_direct_chunk((offset[0] + first, *offset[1:]), packed, mask)
            except OSError as error:
                raise ExafelError(f"cannot write: {error}", where=self.path) from error
            self._count = last

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises
        ------
        ExafelError
            There is no frame in it, or it cannot be written.
        """
        if not self._file:
            return
        if self._count == 0:
            self.abandon()
            raise ExafelError("no frames were written", where=self.path)
        try:
            for name in self._per_frame():
                self._file[name].resize(self._count, axis=0)
            self._file.close()
            with self._part.open("rb+") as stream:
                os.fsync(stream.fileno())
            self._part.replace(self.path)
        except OSError as error:
            raise ExafelError(f"cannot write: {error}", where=self.path) from error

    def abandon(self) -> None:
        """Throw away what was written."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _assemble(self, panels: Sequence[AnyArray]) -> AnyArray:
        if len(panels) == 1:
            return np.asarray(panels[0])
        frame = np.zeros(self._frame_shape, dtype=np.result_type(*(data.dtype for data in panels)))
        for row, data in zip(self._rows, panels, strict=False):
            frame[row : row + data.shape[0], : data.shape[1]] = data
        return frame

    def _create(self, dtype: np.dtype[Any], beam: Beam) -> None:
        first = self._detector[0].shape
        chunks = (1, first[0], self._frame_shape[1])
        data = self._file["entry/data"]
        data.create_dataset(
            "data",
            (self._room, *self._frame_shape),
            dtype,
            maxshape=(None, *self._frame_shape),
            chunks=chunks,
            **self._filter,
        )
        detector = self._file["entry/instrument/detector"]
        detector["data"] = h5py.SoftLink("/entry/data/data")
        if dtype.kind in "iu":
            detector["bit_depth_readout"] = np.int32(8 * dtype.itemsize)
        group = self._file["entry/instrument/beam"]
        group["incident_polarization_stokes"] = _stokes(beam)
        wavelength = _column(group, "incident_wavelength", self._room, ())
        if beam.spectrum is not None:
            wavelength.attrs["variant"] = np.bytes_(_SPECTRUM)
            shape = beam.spectrum.weights.shape
            _column(group, _SPECTRUM, self._room, shape)
            _column(group, f"{_SPECTRUM}_weights", self._room, shape).attrs.pop("units")
            group[f"{_SPECTRUM}_weight"] = group[f"{_SPECTRUM}_weights"]  # the name that dxtbx 3.12 looks for

    def _per_frame(self) -> list[str]:
        return [name for name in _PER_FRAME if name in self._file]

    def _put(self, name: str, value: AnyArray | float) -> None:
        dataset = self._file[name]
        if len(dataset) <= self._count:
            dataset.resize(self._count + 1, axis=0)
        dataset[self._count] = value

    def _put_spectrum(self, beam: Beam) -> None:
        path = f"/entry/instrument/beam/{_SPECTRUM}"
        if (beam.spectrum is not None) != (path in self._file):
            raise ValueError("all frames of a file have a spectrum, or none")
        if beam.spectrum is None:
            return
        if self._file[path].shape[1:] != beam.spectrum.weights.shape:
            raise ValueError("all spectra of a file have the same number of channels")
        self._put(path, beam.spectrum.wavelengths_angstrom)
        self._put(f"{path}_weights", beam.spectrum.weights)

    def _write_detector(self, mask: Sequence[BoolArray] | None) -> None:
        group = _group(self._file, "/entry/instrument/detector", "NXdetector")
        _group(self._file, _TRANSFORMATIONS, "NXtransformations")
        panels = self._detector.panels
        _write_axis(self._file, f"{_TRANSFORMATIONS}/AXIS_DETECTOR", ".", np.zeros(3))
        group["depends_on"] = np.bytes_(f"{_TRANSFORMATIONS}/AXIS_DETECTOR")
        group["description"] = np.bytes_(f"Written by ExaFEL Workflows {exafel.__version__}")
        group["sensor_material"] = np.bytes_(panels[0].material or "Si")
        group["sensor_thickness"] = panels[0].thickness_mm
        group["sensor_thickness"].attrs["units"] = np.bytes_("mm")
        for name, value in zip(("underload_value", "saturation_value"), panels[0].trusted_range, strict=True):
            group[name] = int(value) if value == round(value) and abs(value) < 2**62 else value
        for number, panel in enumerate(panels):
            self._write_module(number, panel)
        masks = [_good_pixels(panel, None if mask is None else mask[i]) for i, panel in enumerate(panels)]
        if not all(good.all() for good in masks):
            bad = np.ones(self._frame_shape, dtype=np.uint32)
            for row, good in zip(self._rows, masks, strict=False):
                bad[row : row + good.shape[0], : good.shape[1]] = ~good
            group.create_dataset("pixel_mask", data=bad, chunks=bad.shape, compression="gzip", shuffle=True)

    def _write_module(self, number: int, panel: Panel) -> None:
        path = f"/entry/instrument/detector/module_{number:04d}"
        module = _group(self._file, path, "NXdetector_module")
        axis = f"{_TRANSFORMATIONS}/AXIS_{number:04d}"
        _write_axis(self._file, axis, f"{_TRANSFORMATIONS}/AXIS_DETECTOR", MCSTAS_TO_LAB @ panel.origin_mm)
        module["data_origin"] = np.array([self._rows[number], 0], dtype=np.int64)
        module["data_size"] = np.array(panel.shape, dtype=np.int64)
        for name, direction, size in (
            ("fast_pixel_direction", panel.fast_axis, panel.pixel_size_mm[0]),
            ("slow_pixel_direction", panel.slow_axis, panel.pixel_size_mm[1]),
        ):
            _write_axis(self._file, f"{path}/{name}", axis, np.zeros(3), MCSTAS_TO_LAB @ direction, size)


def _check_uniform(detector: Detector) -> None:
    def shared(panel: Panel) -> tuple[object, ...]:
        return panel.trusted_range, panel.thickness_mm, panel.material

    if not detector.panels:
        raise ValueError("a detector without panels")
    if any(shared(panel) != shared(detector[0]) for panel in detector.panels):
        raise ValueError("the panels differ in trusted range or sensor, which NXmx says once a detector")


def _first_spectrum(file: h5py.File) -> Spectrum | None:
    path = f"/entry/instrument/beam/{_SPECTRUM}"
    return Spectrum(file[path][0], file[f"{path}_weights"][0]) if path in file else None


def _filter(compression: Compression) -> dict[str, Any]:
    if compression == "bitshuffle-lz4":
        return dict(hdf5plugin.Bitshuffle(cname="lz4"))
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compression == "gzip" else {}


def _group(file: h5py.File, path: str, nx_class: str) -> h5py.Group:
    group = file.create_group(path)
    group.attrs["NX_class"] = np.bytes_(nx_class)
    return group


def _write_skeleton(file: h5py.File, name: str) -> None:
    """Write what NXmx asks for beside frames, beam and detector.

    All text has a fixed length: HDF5 keeps text of any length in heaps without checksums, and damaged heaps can make
    it read for ever.
    """
    file.attrs["NX_class"] = np.bytes_("NXroot")
    _group(file, "/entry", "NXentry")["definition"] = np.bytes_("NXmx")
    _group(file, "/entry/data", "NXdata").attrs["signal"] = np.bytes_("data")
    _group(file, "/entry/instrument", "NXinstrument")["name"] = np.bytes_(name)
    _group(file, "/entry/instrument/beam", "NXbeam")
    _group(file, "/entry/source", "NXsource")["name"] = np.bytes_(name)
    sample = _group(file, "/entry/sample", "NXsample")
    sample["name"], sample["depends_on"] = np.bytes_("sample"), np.bytes_(".")


def _write_axis(
    file: h5py.File,
    path: str,
    depends_on: str,
    offset_mm: FloatArray,
    vector: FloatArray | None = None,
    value_mm: float = 0.0,
) -> None:
    dataset = file.create_dataset(path, data=np.array([value_mm]))
    dataset.attrs["transformation_type"] = np.bytes_("translation")
    dataset.attrs["vector"] = np.array([0.0, 0.0, 1.0]) if vector is None else vector
    dataset.attrs["offset"] = offset_mm
    dataset.attrs["depends_on"] = np.bytes_(depends_on)
    dataset.attrs["units"] = dataset.attrs["offset_units"] = np.bytes_("mm")


def _column(group: h5py.Group, name: str, room: int, shape: tuple[int, ...]) -> h5py.Dataset:
    dataset = group.create_dataset(name, (room, *shape), np.float64, maxshape=(None, *shape))
    dataset.attrs["units"] = np.bytes_("angstrom")
    return dataset


def _stokes(beam: Beam) -> FloatArray:
    """Stokes parameters (I, Q, U, V) of a linearly polarized part; Q counts an electric vector along x."""
    degree = 2 * beam.polarization_fraction - 1
    x, y = beam.polarization_normal[:2]
    twice_angle = 2 * np.arctan2(x, y)
    return np.array([1.0, degree * np.cos(twice_angle), degree * np.sin(twice_angle), 0.0])


def _good_pixels(panel: Panel, mask: BoolArray | None) -> BoolArray:
    good = np.ones(panel.shape, dtype=np.bool_) if mask is None else np.array(mask, dtype=np.bool_)
    for fast0, slow0, fast1, slow1 in panel.mask_rectangles:
        good[max(slow0, 0) : max(slow1, 0), max(fast0, 0) : max(fast1, 0)] = False
    return good
