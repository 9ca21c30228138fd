"""The beam in NXmx files: wavelengths, spectra, polarization."""

from __future__ import annotations

import h5py
import numpy as np

from exafel.arrays import FloatArray
from exafel.errors import InputError
from exafel.io.geometry import Beam, Spectrum
from exafel.io.nexus_geometry import children_of_class, millimetres, text_of

_ANGSTROM_PER_MM = 1e7
_PRIMARY = "incident_wavelength"


class BeamReader:
    """Beams of the frames of one file; wavelengths are read at once, spectra when asked for.

    ``incident_wavelength`` holds one value, or one a frame; or a spectrum of its own, when there are weights beside it.
    A spectrum may also be a ``variant`` of it. As in dxtbx, the wavelength is ``incident_wavelength`` itself where
    the spectrum is a variant, and the wavelength of the weighted mean energy where it is not.

    Raises
    ------
    InputError
        There is no NXbeam, or no wavelength in it.
    """

    def __init__(self, entry: h5py.Group, instrument: h5py.Group) -> None:
        parents = [instrument, *children_of_class(entry, "NXsample")]
        beams = [beam for parent in parents for beam in children_of_class(parent, "NXbeam") if _PRIMARY in beam]
        if not beams:
            raise InputError("no NXbeam with an incident_wavelength", where=entry.file.filename)
        self._where = f"{entry.file.filename}:{beams[0].name}"
        self._spectrum = _find_spectrum(beams[0])
        primary = beams[0][_PRIMARY]
        self._factor = millimetres(primary.attrs.get("units", "angstrom"), self._where) * _ANGSTROM_PER_MM
        own = self._spectrum is not None and self._spectrum[0] == primary.name
        self._wavelengths = np.zeros(0) if own else np.ravel(primary[()]).astype(np.float64) * self._factor
        self._first = self._mean(entry.file, 0) if own else float(self._wavelengths[0])
        self._polarization = _polarization(beams[0])

    def wavelength(self, index: int) -> float:
        """Wavelength of frame `index` in angstrom; of the first frame where each frame's spectrum gives it."""
        if len(self._wavelengths) == 0:
            return self._first
        return float(self._wavelengths[index if len(self._wavelengths) > 1 else 0])

    def read(self, handle: h5py.File, index: int) -> Beam:
        """Beam of frame `index`."""
        spectrum = None if self._spectrum is None else self._read_spectrum(handle, index)
        if len(self._wavelengths) == 0 and spectrum is not None:
            wavelength = spectrum.mean_wavelength()
        else:
            wavelength = self.wavelength(index)
        if not (np.isfinite(wavelength) and wavelength > 0):
            raise ValueError(f"the wavelength is {wavelength}")
        fraction, normal = self._polarization
        return Beam(wavelength, polarization_fraction=fraction, polarization_normal=normal, spectrum=spectrum)

    def _mean(self, handle: h5py.File, index: int) -> float:
        return self._read_spectrum(handle, index).mean_wavelength()

    def _read_spectrum(self, handle: h5py.File, index: int) -> Spectrum:
        assert self._spectrum is not None
        wavelengths, weights = (_row(handle[name], index) for name in self._spectrum)
        units = handle[self._spectrum[0]].attrs.get("units")
        factor = self._factor if units is None else millimetres(units, self._where) * _ANGSTROM_PER_MM
        return Spectrum(wavelengths * factor, weights)


def _row(dataset: h5py.Dataset, index: int) -> FloatArray:
    return np.asarray(dataset[index] if dataset.ndim > 1 else dataset[()], dtype=np.float64)


def _find_spectrum(beam: h5py.Group) -> tuple[str, str] | None:
    """Paths of a spectrum's wavelengths and weights: the first with weights along the chain of variants."""
    name, seen = _PRIMARY, set()
    while name in beam and name not in seen:
        seen.add(name)
        for weights in (f"{name}_weights", f"{name}_weight"):
            if weights in beam and beam[weights].size > 1:
                return str(beam[name].name), str(beam[weights].name)
        name = text_of(beam[name].attrs.get("variant", ""))
    return None


def _polarization(beam: h5py.Group) -> tuple[float, FloatArray]:
    """Fraction and normal of the plane of polarization from the Stokes parameters; dxtbx's default without them.

    NeXus counts Q positive for an electric vector along x, U for one at 45 degrees towards y.
    """
    stokes = beam.get("incident_polarization_stokes")
    if not isinstance(stokes, h5py.Dataset) or stokes.size < 3:
        return 0.999, np.array([0.0, 1.0, 0.0])
    intensity, q, u = (float(value) for value in np.ravel(stokes[()])[:3])
    half_angle = 0.5 * np.arctan2(u, q)
    fraction = 0.5 * (1 + np.hypot(q, u) / intensity) if intensity > 0 else 0.5
    return float(fraction), np.array([np.sin(half_angle), np.cos(half_angle), 0.0])
