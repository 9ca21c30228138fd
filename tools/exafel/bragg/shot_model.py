"""The model of one shot's pixels that stage 1 refines, in parameters of unit scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from exafel.arrays import FloatArray, Int32Array
from exafel.bragg.bases import crystal_bases, mosaic_axes
from exafel.bragg.cell_freedom import free_cell_directions
from exafel.bragg.forward import VARIABLES, bragg_gradients
from exafel.bragg.scene import CrystalModel, SceneArrays, SceneOptions, StructureFactors, scene_arrays
from exafel.io.crystal import CellParameters, Crystal
from exafel.io.geometry import Beam, Detector

_ROW = {name: number for number, name in enumerate(VARIABLES)}


@dataclass(frozen=True)
class ShotParameters:
    """What describes one crystal in one shot.

    Parameters
    ----------
    turns_rad
        Turns of the crystal about the laboratory's axes, on top of the starting orientation.
    cell
        Lengths (angstrom), angles (degrees).
    n_cells
        Unit cells of a mosaic block along a, b, c.
    scale
        Mosaic blocks in the beam, G.
    eta_deg
        Mosaic spread about a, b, c, degrees.
    detector_z_mm
        Shift of the detector along the beam.
    b_factor
        Photons are times exp(-B / (2 d^2)), angstrom^2.
    """

    cell: CellParameters
    n_cells: tuple[float, float, float]
    scale: float
    turns_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    eta_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    detector_z_mm: float = 0.0
    b_factor: float = 0.0


@dataclass(frozen=True, eq=False)
class ShotScene:
    """What of a shot is known and stays: geometry, orientation to start from, structure factors.

    Parameters
    ----------
    detector, beam
        Geometry; the beam with its spectrum.
    crystal
        The lattice as indexed: its orientation is what turns start from.
    structure_factors
        |F|^2 by index.
    fluence_per_m2
        Photons on a square metre.
    options
        How the forward model is evaluated.
    mosaic_blocks
        Blocks that sample a mosaic spread; one suffices where there is none.
    spread
        The detector's point spread within boxes (`exafel.bragg.point_spread.spread_matrix`); None: it has none.
    """

    detector: Detector
    beam: Beam
    crystal: Crystal
    structure_factors: StructureFactors
    fluence_per_m2: float
    options: SceneOptions = field(default_factory=SceneOptions)
    mosaic_blocks: int = 1
    spread: FloatArray | None = None

    def arrays(self, parameters: ShotParameters) -> SceneArrays:
        """Arrange the forward model with these parameters."""
        spread = np.radians(parameters.eta_deg)
        axes = mosaic_axes(self.mosaic_blocks) if self.mosaic_blocks > 1 else np.zeros((1, 3))
        blocks, jacobian = crystal_bases(
            self.crystal.U, parameters.cell, axes, turns_rad=parameters.turns_rad, spread_rad=spread
        )
        model = CrystalModel(blocks, parameters.n_cells, parameters.scale, jacobian=jacobian)
        detector = shifted(self.detector, self.beam, parameters.detector_z_mm)
        return scene_arrays(detector, self.beam, model, self.structure_factors, self.fluence_per_m2, self.options)

    def refined_crystal(self, parameters: ShotParameters) -> Crystal:
        """Return the lattice turned and with the cell of the parameters."""
        basis, _ = crystal_bases(self.crystal.U, parameters.cell, np.zeros((1, 3)), turns_rad=parameters.turns_rad)
        return replace(self.crystal, real_space=basis[0])

    def bragg_decay(self, pixels: Int32Array) -> FloatArray:
        """Return -1/(2 d^2) of pixels: the derivative of the logarithm of their photons by B, shape (n,)."""
        q2 = np.empty(len(pixels))
        for number in np.unique(pixels[:, 0]):
            rows = pixels[:, 0] == number
            lab = self.detector[int(number)].pixel_to_lab(pixels[rows, 1:].astype(np.float64) + 0.5)
            q2[rows] = np.sum(self.beam.reciprocal(lab) ** 2, axis=1)
        return -q2 / 2


def shifted(detector: Detector, beam: Beam, shift_mm: float) -> Detector:
    """Return the detector moved along the beam."""
    if shift_mm == 0:
        return detector
    along = shift_mm * beam.s0 * beam.wavelength_angstrom
    return replace(
        detector, panels=tuple(replace(panel, origin_mm=panel.origin_mm + along) for panel in detector.panels)
    )


@dataclass(frozen=True)
class _Variable:
    """One free parameter: what it moves, by how much for a unit, and the units between which it stays."""

    name: str
    unit: float
    low: float
    high: float
    restraint: float | None
    logarithmic: bool = False


class Parameterization:
    """Free parameters of a shot in units that change the pixels about equally.

    Turns, free cell parameters, detector shift and B are linear; scale, numbers of cells and mosaic spread are
    logarithmic, so that they stay positive.

    Parameters
    ----------
    scene, start
        The shot and where its parameters start.
    units
        Steps of unit scale by name: ``scale``, ``n_cells``, ``eta`` relative; ``turns`` degrees; ``cell`` relative for
        lengths and degrees for angles; ``detector_z`` mm; ``b_factor`` angstrom^2. What is not named stays fixed.
    limits
        Largest change by name: ``turns`` degrees, ``cell`` relative (angles: times 100 degrees), ``detector_z`` mm,
        ``b_factor`` angstrom^2; ``n_cells`` and ``eta``: smallest and largest value.
    restraints
        Standard deviations of restraints to the start by name, in the same terms; none: free.
    """

    def __init__(
        self,
        scene: ShotScene,
        start: ShotParameters,
        units: Mapping[str, float],
        limits: Mapping[str, float | tuple[float, float]],
        restraints: Mapping[str, float],
    ) -> None:
        self._scene = scene
        self.start = start
        self._units, self._limits, self._restraints = units, limits, restraints
        self._directions = free_cell_directions(start.cell, scene.crystal.space_group)
        self.variables: list[_Variable] = []
        if "scale" in units:
            self._add("scale", units["scale"], (-40.0, 40.0), logarithmic=True)
        for axis in "xyz" if "turns" in units else "":
            self._add(f"rot_{axis}", np.radians(units["turns"]), _symmetric(np.radians(_one(limits["turns"]))))
        for number, direction in enumerate(self._directions if "cell" in units else ()):
            pivot = int(np.flatnonzero(direction == 1)[0])
            size = start.cell[pivot] if pivot < 3 else 100.0
            self._add(f"cell_{number}", size * units["cell"], _symmetric(size * _one(limits["cell"])))
        for axis, value in zip("abc", start.n_cells, strict=True):
            self._add_logarithmic("n_cells", f"n_{axis}", value)
        self._add_logarithmic("eta", "eta", start.eta_deg[0])
        for name in ("detector_z", "b_factor"):
            if name in units:
                self._add(name, units[name], _symmetric(_one(limits[name])))

    def _add_logarithmic(self, kind: str, name: str, value: float) -> None:
        if kind in self._units and value > 0:
            low, high = np.log(np.asarray(self._limits[kind]) / value)
            self._add(name, self._units[kind], (low, high), logarithmic=True)

    def _add(self, name: str, unit: float, limit: tuple[float, float], *, logarithmic: bool = False) -> None:
        kind = {"rot": "turns", "cel": "cell", "n_a": "n_cells", "n_b": "n_cells", "n_c": "n_cells"}.get(name[:3], name)
        sigma = self._restraints.get(kind)
        if sigma is not None:  # in the same terms as the unit, so its ratio to it is what counts
            sigma = sigma / self._units[kind]
        low, high = limit[0] / unit, limit[1] / unit
        self.variables.append(_Variable(name, float(unit), float(low), float(high), sigma, logarithmic))

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest values, each of shape (n,)."""
        return np.array([v.low for v in self.variables]), np.array([v.high for v in self.variables])

    def restraint_weights(self) -> FloatArray:
        """Inverse variances of the restraints to zero, shape (n,)."""
        return np.array([0.0 if v.restraint is None else v.restraint**-2 for v in self.variables])

    def parameters(self, x: FloatArray) -> ShotParameters:
        """Parameters at `x`, shape (n,)."""
        start = self.start
        moved = {v.name: value * v.unit for v, value in zip(self.variables, x, strict=True)}
        cell = np.array(start.cell)
        for number, direction in enumerate(self._directions):
            cell = cell + moved.get(f"cell_{number}", 0.0) * direction
        n_cells = [n * np.exp(moved.get(f"n_{axis}", 0.0)) for axis, n in zip("abc", start.n_cells, strict=True)]
        eta = np.exp(moved.get("eta", 0.0))
        turns = [t + moved.get(f"rot_{axis}", 0.0) for axis, t in zip("xyz", start.turns_rad, strict=True)]
        return ShotParameters(
            cell=_six(cell),
            n_cells=_three(n_cells),
            scale=float(start.scale * np.exp(moved.get("scale", 0.0))),
            turns_rad=_three(turns),
            eta_deg=_three([eta * value for value in start.eta_deg]),
            detector_z_mm=start.detector_z_mm + moved.get("detector_z", 0.0),
            b_factor=start.b_factor + moved.get("b_factor", 0.0),
        )

    def photons(self, x: FloatArray, pixels: Int32Array, decay: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Bragg photons of pixels at `x`, shape (n_pixels,), and their derivatives by `x`, (n, n_pixels).

        `decay` is the scene's `bragg_decay` of these pixels; with a point spread they must be those of whole boxes.
        """
        now = self.parameters(x)
        found = bragg_gradients(self._scene.arrays(now), pixels)
        factor = np.exp(now.b_factor * decay)
        photons, slopes = found.photons * factor, found.derivatives * factor
        rows = [variable.unit * self._slope(variable.name, now, photons, slopes, decay) for variable in self.variables]
        derivatives = np.array(rows).reshape(len(self), len(pixels))
        spread = self._scene.spread
        if spread is None:
            return photons, derivatives
        return (
            (photons.reshape(-1, len(spread)) @ spread).ravel(),
            (derivatives.reshape(-1, len(spread)) @ spread).reshape(derivatives.shape),
        )

    def _slope(
        self, name: str, now: ShotParameters, photons: FloatArray, slopes: FloatArray, decay: FloatArray
    ) -> FloatArray:
        if name == "scale":
            return photons
        if name == "b_factor":
            return photons * decay
        if name == "eta":
            etas = np.radians(now.eta_deg)
            return np.asarray(etas @ slopes[_ROW["eta_a"] : _ROW["eta_c"] + 1])
        if name.startswith("cell_"):
            return np.asarray(self._directions[int(name[5:])] @ slopes[_ROW["a"] : _ROW["gamma"] + 1])
        if name.startswith("n_"):
            return np.asarray(now.n_cells["abc".index(name[2])] * slopes[_ROW[name]])
        return np.asarray(slopes[_ROW[name]])


def _one(limit: float | tuple[float, float]) -> float:
    assert not isinstance(limit, tuple)
    return limit


def _symmetric(limit: float) -> tuple[float, float]:
    return -limit, limit


def _three(values: FloatArray | list[float]) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c


def _six(values: FloatArray) -> CellParameters:
    a, b, c, alpha, beta, gamma = (float(value) for value in values)
    return a, b, c, alpha, beta, gamma
