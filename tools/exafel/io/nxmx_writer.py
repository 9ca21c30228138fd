"""Write frames as NXmx HDF5 files, readable by dxtbx: all panels, each shot's wavelength and spectrum."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

import exafel
from exafel.arrays import AnyArray, FloatArray
from exafel.errors import ExafelError
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.nexus_geometry import MCSTAS_TO_LAB

_TRANSFORMATIONS = "/entry/instrument/detector/transformations"


class NXmxWriter:
    """Writer of one file; frames are appended, and the file is there, whole, once the context is left without error.

    The panels of a frame are stacked along slow in one array. Wavelengths, spectra and polarization are those of the
    beams; all beams of a file have spectra on the same channels, or none has one. Compression is gzip with shuffle,
    which every HDF5 library reads without plug-ins.

    Parameters
    ----------
    path
        The file.
    detector
        The detector of all frames. dxtbx needs a sensor: panels without one get a silicon sensor of no thickness.
    n_frames
        Number of frames that will be appended.

    Raises
    ------
    ExafelError
        The file cannot be written.
    """

    def __init__(self, path: Path, detector: Detector, n_frames: int) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._detector = detector
        self._n_frames = n_frames
        self._beams: list[Beam] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._partial, "w")
        except OSError as error:
            raise ExafelError(f"cannot write: {error}", where=path) from error
        self._rows = np.cumsum([0, *(panel.shape[0] for panel in detector.panels)])
        self._width = max(panel.shape[1] for panel in detector.panels)
        self._data = self._create_data()

    def append(self, panels: Sequence[AnyArray], beam: Beam) -> None:
        """Add a frame.

        Parameters
        ----------
        panels
            One array of shape (slow, fast) a panel, of integers.
        beam
            The pulse.

        Raises
        ------
        ExafelError
            The disk is full or gone.
        """
        frame = np.zeros(self._data.shape[1:], dtype=self._data.dtype)
        for start, panel in zip(self._rows[:-1], panels, strict=True):
            frame[start : start + panel.shape[0], : panel.shape[1]] = panel
        try:
            self._data[len(self._beams)] = frame
        except OSError as error:
            raise ExafelError(f"cannot write: {error}", where=self._path) from error
        self._beams.append(beam)

    def __enter__(self) -> NXmxWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        if len(self._beams) != self._n_frames:
            raise ValueError(f"{len(self._beams)} frames were written, {self._n_frames} announced")
        try:
            self._write_beams()
            self._file.close()
            with self._partial.open("rb") as stream:
                os.fsync(stream.fileno())
            self._partial.replace(self._path)
        except OSError as error:
            raise ExafelError(f"cannot write: {error}", where=self._path) from error

    def _create_data(self) -> h5py.Dataset:
        entry = _group(self._file, "entry", "NXentry")
        entry["definition"] = "NXmx"
        entry["start_time"] = entry["end_time_estimated"] = datetime.now(UTC).isoformat(timespec="seconds")
        entry["program_name"] = f"ExaFEL Workflows {exafel.__version__}"
        _group(entry, "source", "NXsource")["name"] = "simulation"
        sample = _group(entry, "sample", "NXsample")
        sample["name"], sample["depends_on"] = "simulation", "."
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = "simulation"
        _group(instrument, "beam", "NXbeam")
        self._write_detector(_group(instrument, "detector", "NXdetector"))
        data = _group(entry, "data", "NXdata")
        data.attrs["signal"] = "data"
        shape = (self._n_frames, int(self._rows[-1]), self._width)
        return data.create_dataset(
            "data", shape, np.int32, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1, shuffle=True
        )

    def _write_detector(self, group: h5py.Group) -> None:
        first = self._detector.panels[0]
        group["depends_on"] = f"{_TRANSFORMATIONS}/panel_0"
        group["description"] = "panels stacked along slow"
        group["sensor_material"] = first.material or "Si"
        group["sensor_thickness"] = first.thickness_mm or 1e-9
        group["sensor_thickness"].attrs["units"] = "mm"
        # dxtbx 3.12 trusts underload_value itself too.
        group["underload_value"] = int(first.trusted_range[0])
        group["saturation_value"] = int(first.trusted_range[1])
        self._write_mask(group)
        transformations = _group(group, "transformations", "NXtransformations")
        for number, panel in enumerate(self._detector.panels):
            origin = MCSTAS_TO_LAB @ panel.origin_mm
            name = f"{_TRANSFORMATIONS}/panel_{number}"
            length = float(np.linalg.norm(origin))
            _axis(transformations, f"panel_{number}", length, origin / length, ".")
            self._write_module(_group(group, f"module_{number}", "NXdetector_module"), number, panel, name)

    def _write_module(self, group: h5py.Group, number: int, panel: Panel, depends_on: str) -> None:
        group["data_origin"] = np.array([self._rows[number], 0], dtype=np.int64)
        group["data_size"] = np.array(panel.shape, dtype=np.int64)
        _axis(group, "fast_pixel_direction", panel.pixel_size_mm[0], MCSTAS_TO_LAB @ panel.fast_axis, depends_on)
        _axis(group, "slow_pixel_direction", panel.pixel_size_mm[1], MCSTAS_TO_LAB @ panel.slow_axis, depends_on)

    def _write_mask(self, group: h5py.Group) -> None:
        if not any(panel.mask_rectangles for panel in self._detector.panels):
            return
        mask = np.ones((int(self._rows[-1]), self._width), dtype=np.uint32)
        for start, panel in zip(self._rows[:-1], self._detector.panels, strict=True):
            good = panel.trusted_mask(np.full(panel.shape, panel.trusted_range[0]))
            mask[start : start + panel.shape[0], : panel.shape[1]] = ~good
        group.create_dataset("pixel_mask", data=mask, compression="gzip")

    def _write_beams(self) -> None:
        group = self._file["entry/instrument/beam"]
        wavelengths = np.array([beam.wavelength_angstrom for beam in self._beams])
        _angstrom(group, "incident_wavelength", wavelengths)
        if self._beams:
            group["incident_polarization_stokes"] = _stokes(self._beams[0])
        spectra = [beam.spectrum for beam in self._beams if beam.spectrum is not None]
        if not spectra:
            return
        name = "incident_wavelength_1Dspectrum"
        _angstrom(group, name, np.array([spectrum.wavelengths_angstrom for spectrum in spectra]))
        group[f"{name}_weights"] = np.array([spectrum.weights for spectrum in spectra])
        group["incident_wavelength"].attrs["variant"] = name


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _axis(group: h5py.Group, name: str, value_mm: float, vector: FloatArray, depends_on: str) -> None:
    attributes: dict[str, Any] = {
        "units": "mm",
        "transformation_type": "translation",
        "vector": vector,
        "offset": np.zeros(3),
        "offset_units": "mm",
        "depends_on": depends_on,
    }
    group[name] = np.array([value_mm])
    group[name].attrs.update(attributes)


def _angstrom(group: h5py.Group, name: str, values: FloatArray) -> None:
    group[name] = values
    group[name].attrs["units"] = "angstrom"


def _stokes(beam: Beam) -> FloatArray:
    """Stokes parameters I, Q, U, V of a beam along z: Q positive for an electric field along x."""
    half_angle = np.arctan2(beam.polarization_normal[0], beam.polarization_normal[1])
    degree = 2 * beam.polarization_fraction - 1
    return np.array([1.0, degree * np.cos(2 * half_angle), degree * np.sin(2 * half_angle), 0.0])
