"""Merged intensities and structure factors as MTZ files, by gemmi."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

import exafel
from exafel.arrays import AnyArray, FloatArray, Int32Array
from exafel.errors import InputError
from exafel.io.crystal import CellParameters, space_group
from exafel.io.files import atomic_write

_COLUMN_TYPES = {
    "F": "F", "SIGF": "Q", "I": "J", "SIGI": "Q", "I(+)": "K", "SIGI(+)": "M", "I(-)": "K", "SIGI(-)": "M",
    "IHALF1": "J", "SIGIHALF1": "Q", "IHALF2": "J", "SIGIHALF2": "Q", "N": "I",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class MergedData:
    """Merged reflections: one row an asymmetric-unit index, both Bijvoet mates in one row.

    Parameters
    ----------
    hkl
        Indices in the asymmetric unit of the Laue group (gemmi's, which is CCP4's), shape (n, 3).
    cell, space_group
        Unit cell (angstrom, deg) and Hermann-Mauguin or Hall symbol.
    wavelength_angstrom
        Mean wavelength of the data.
    intensity, sigma
        Mean over both mates, shape (n,).
    n_obs
        Number of observations, shape (n,).
    intensity_plus, sigma_plus, intensity_minus, sigma_minus
        Bijvoet mates, shape (n,), NaN where not measured; None where mates were merged together, which is written as
        missing values.
    intensity_half1, sigma_half1, intensity_half2, sigma_half2
        Half data sets, shape (n,), NaN where empty; None where not made, written as missing values.
    """

    hkl: Int32Array
    cell: CellParameters
    space_group: str
    wavelength_angstrom: float
    intensity: FloatArray
    sigma: FloatArray
    n_obs: AnyArray
    intensity_plus: FloatArray | None = None
    sigma_plus: FloatArray | None = None
    intensity_minus: FloatArray | None = None
    sigma_minus: FloatArray | None = None
    intensity_half1: FloatArray | None = None
    sigma_half1: FloatArray | None = None
    intensity_half2: FloatArray | None = None
    sigma_half2: FloatArray | None = None

    def columns(self) -> dict[str, AnyArray]:
        """Return the MTZ columns by label, in the order in which they are written; those not made are all missing."""
        amplitude, sigma_amplitude = amplitudes(self.intensity, self.sigma)
        missing = np.full(len(self.hkl), np.nan)
        found: Mapping[str, AnyArray | None] = {
            "F": amplitude,
            "SIGF": sigma_amplitude,
            "I": self.intensity,
            "SIGI": self.sigma,
            "I(+)": self.intensity_plus,
            "SIGI(+)": self.sigma_plus,
            "I(-)": self.intensity_minus,
            "SIGI(-)": self.sigma_minus,
            "IHALF1": self.intensity_half1,
            "SIGIHALF1": self.sigma_half1,
            "IHALF2": self.intensity_half2,
            "SIGIHALF2": self.sigma_half2,
            "N": self.n_obs,
        }
        return {label: missing if values is None else values for label, values in found.items()}


def amplitudes(intensity: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Amplitudes and their errors from intensities that may be negative.

    The most probable positive amplitude given a Gaussian intensity and no knowledge of the structure: Sivia and
    David, Acta Cryst. A50 (1994) 703, equations for F and sigma(F). For strong reflections it is the square root.

    Parameters
    ----------
    intensity, sigma
        Shape (n,).

    Returns
    -------
    amplitude, sigma_amplitude
        Shape (n,); NaN where sigma is not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.where(sigma > 0, sigma, np.nan)
        # Written without a difference of near-equal numbers, which negative intensities would bring.
        root = np.sqrt(intensity**2 + 2 * sigma**2)
        squared = np.where(intensity >= 0, (intensity + root) / 2, sigma**2 / (root - intensity))
        curvature = 1 / squared + 2 * (3 * squared - intensity) / sigma**2
        return np.sqrt(squared), 1 / np.sqrt(curvature)


def new_mtz(title: str, group: str, cell: CellParameters, wavelength_angstrom: float, dataset: str) -> gemmi.Mtz:
    """Make an MTZ with the indices' columns and a data set for others.

    Raises
    ------
    ConfigError
        The space group is unknown.
    """
    mtz = gemmi.Mtz(with_base=True)
    mtz.title = title
    mtz.spacegroup = space_group(group)
    mtz.set_cell_for_all(gemmi.UnitCell(*cell))
    mtz.history = [f"From ExaFEL Workflows {exafel.__version__}"]
    mtz.add_dataset(dataset).wavelength = wavelength_angstrom
    return mtz


def write_mtz(path: Path, data: MergedData, *, history: tuple[str, ...] = (), dataset: str = "exafel") -> None:
    """Write merged data: ``F SIGF I SIGI I(+) SIGI(+) I(-) SIGI(-) IHALF1 SIGIHALF1 IHALF2 SIGIHALF2 N``.

    Raises
    ------
    ExafelError
        The file cannot be written.
    ConfigError
        The space group is unknown.
    """
    mtz = new_mtz("Merged serial diffraction data", data.space_group, data.cell, data.wavelength_angstrom, dataset)
    mtz.history = [*mtz.history, *history]
    columns = data.columns()
    for label in columns:
        mtz.add_column(label, _COLUMN_TYPES[label])
    mtz.set_data(np.column_stack([data.hkl, *columns.values()]).astype(np.float32))
    mtz.sort()
    with atomic_write(path) as stream:
        stream.write(mtz.write_to_bytes())


@dataclass(frozen=True, eq=False)
class ReferenceData:
    """One column of values from an MTZ file.

    Parameters
    ----------
    hkl
        Shape (n, 3); with Bijvoet mates apart, those of the minus mate are the negative of the asu index.
    value, sigma
        Amplitudes or intensities, shape (n,); sigma is NaN where the file has none.
    amplitude
        Whether `value` holds amplitudes.
    """

    hkl: Int32Array
    value: FloatArray
    sigma: FloatArray
    amplitude: bool
    cell: CellParameters
    space_group: str
    wavelength_angstrom: float

    def intensities(self) -> tuple[FloatArray, FloatArray]:
        """Intensities and errors, shape (n,): amplitudes are squared."""
        if not self.amplitude:
            return self.value, self.sigma
        return self.value**2, 2 * self.value * self.sigma


def read_mtz(path: Path, column: str | None = None) -> ReferenceData:
    """Read amplitudes or intensities.

    Parameters
    ----------
    path
        The file.
    column
        Label of the values; a Bijvoet pair is named by its plus mate, as ``I(+)``. None takes the first of: mean
        intensities, Bijvoet intensities, amplitudes, Bijvoet amplitudes.

    Raises
    ------
    InputError
        The file is damaged, is not MTZ, or has no such column.
    """
    try:
        return _reference(_open_mtz(path), path, column)
    except (RuntimeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"damaged MTZ: {' '.join(str(error).split())}", where=path) from error


def _reference(mtz: gemmi.Mtz, path: Path, column: str | None) -> ReferenceData:
    chosen = _choose_column(mtz, path, column)
    rows = np.array(mtz, copy=True).reshape(-1, len(mtz.columns))
    if not (np.abs(rows[:, :3]) < 2**15).all():
        raise InputError("damaged MTZ: Miller indices that are not numbers", where=path)
    hkl = rows[:, :3].astype(np.int32)
    values, sigma = _values_and_sigma(mtz, rows, chosen)
    if chosen.type in {"K", "G"}:
        mate = _minus_mate(mtz, chosen, path)
        minus, sigma_minus = _values_and_sigma(mtz, rows, mate)
        hkl = np.concatenate([hkl, -hkl])
        values, sigma = np.concatenate([values, minus]), np.concatenate([sigma, sigma_minus])
    good = np.isfinite(values)
    cell = mtz.get_cell()
    group = mtz.spacegroup
    if group is None:
        raise InputError("no space group in the MTZ file", where=path)
    dataset = mtz.dataset(chosen.dataset_id)
    return ReferenceData(
        hkl=hkl[good],
        value=values[good],
        sigma=sigma[good],
        amplitude=chosen.type in {"F", "G"},
        cell=(cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma),
        space_group=group.hall,
        wavelength_angstrom=float(dataset.wavelength),
    )


def _open_mtz(path: Path) -> gemmi.Mtz:
    if not path.is_file():
        raise InputError("no such file", where=path)
    try:
        mtz = gemmi.read_mtz_file(str(path))
        if b"MTZENDOFHEADERS" not in path.read_bytes():
            raise InputError("damaged or not MTZ: it ends within its header", where=path)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise InputError(f"damaged or not MTZ: {' '.join(str(error).split())}", where=path) from error
    return mtz


def _choose_column(mtz: gemmi.Mtz, path: Path, label: str | None) -> gemmi.Mtz.Column:
    known = [item for item in mtz.columns if item.type in "JKFG"]
    if label is not None:
        for item in known:
            if item.label == label:
                return item
        labels = ", ".join(item.label for item in known) or "none"
        raise InputError(f"no column '{label}' of amplitudes or intensities", where=path, hint=f"there are: {labels}")
    for kind in "JKFG":
        for item in known:
            if item.type == kind:
                return item
    raise InputError("no column of amplitudes or intensities", where=path)


def _minus_mate(mtz: gemmi.Mtz, plus: gemmi.Mtz.Column, path: Path) -> gemmi.Mtz.Column:
    for sign, other in (("(+)", "(-)"), ("+", "-"), ("PLUS", "MINUS"), ("plus", "minus")):
        if sign in plus.label:
            found = mtz.column_with_label(plus.label.replace(sign, other))
            if found is not None:
                return found
    raise InputError(f"column '{plus.label}' has no Bijvoet mate", where=path)


def _values_and_sigma(mtz: gemmi.Mtz, rows: AnyArray, column: gemmi.Mtz.Column) -> tuple[FloatArray, FloatArray]:
    """Values of a column, and those of the column of errors right after it."""
    values = rows[:, column.idx].astype(np.float64)
    after = mtz.columns[column.idx + 1] if column.idx + 1 < len(mtz.columns) else None
    if after is not None and after.type in {"Q", "M", "L"}:
        return values, rows[:, after.idx].astype(np.float64)
    return values, np.full(len(values), np.nan)
