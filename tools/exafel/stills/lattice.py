"""One indexed and refined lattice of one shot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.config.indexing import MosaicityConfig
from exafel.io.crystal import Crystal
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.ewald import rotate_to_ewald
from exafel.stills.mosaicity import Mosaicity, fit_mosaicity
from exafel.stills.refinement import Refined


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice found in a shot.

    Parameters
    ----------
    crystal
        Refined model, with mosaicity.
    reflections
        Rows of the shot's spots that this lattice indexes, in the order of the spots, with the columns
        ``miller_index``, ``id`` (0), ``xyzcal.px``, ``xyzcal.mm``, ``xyzobs.mm.value``, ``delpsical.rad``, ``s1``,
        ``rlp``, ``d``, ``entering`` and the flags INDEXED, USED_IN_REFINEMENT and CENTROID_OUTLIER set.
    spot_rows
        Row of the shot's spot table that each reflection came from, shape (n,).
    rmsd_px
        Root mean square of observed minus calculated position along fast and slow, spots used in refinement, px.
    rmsd_delta_psi_deg
        Root mean square angle that rotates a reflection onto the Ewald sphere, spots used in refinement, deg.
    n_spots
        Spots that were offered for this lattice.
    mosaicity
        What the mosaicity fit gave; the crystal carries its numbers.
    """

    crystal: Crystal
    reflections: ReflectionTable
    spot_rows: IntArray
    rmsd_px: tuple[float, float]
    rmsd_delta_psi_deg: float
    n_spots: int
    mosaicity: Mosaicity


def build_lattice(
    found: Refined,
    offered: IntArray,
    spots: ReflectionTable,
    detector: Detector,
    beam: Beam,
    hall: str,
    config: MosaicityConfig,
) -> Lattice:
    """Turn a fit into a crystal model with mosaicity, and the spots it indexes into a table.

    Parameters
    ----------
    found
        The fit; its rows count the offered spots.
    offered
        Rows of the shot's spot table that were offered, shape (n,).
    spots
        The shot's spots.
    detector, beam
        Geometry of the shot.
    hall
        Hall symbol of the space group.
    config
        Bounds of the mosaicity.
    """
    rows = offered[found.rows]
    table = spots.select(rows)
    s0_unit = np.asarray(beam.s0 * beam.wavelength_angstrom)
    r = found.hkl @ found.A.T
    d = 1.0 / np.linalg.norm(r, axis=1)
    _, delta_psi = rotate_to_ewald(r, s0_unit, 1.0 / beam.wavelength_angstrom)
    s1, _ = rotate_to_ewald(r, s0_unit, found.wave_number)
    mosaicity = fit_mosaicity(delta_psi[found.used], d[found.used], config)
    _fill_positions(table, s1, detector, beam)
    table["miller_index"] = found.hkl.astype(np.int32)
    table["id"] = np.zeros(len(rows), dtype=np.int32)
    table["s1"] = s1
    table["d"] = d
    table["delpsical.rad"] = -delta_psi  # DIALS counts points inside the sphere as positive
    table["entering"] = delta_psi < 0
    table["flags"] = _flags(spots, rows, found)
    residual = (table["xyzobs.px.value"] - table["xyzcal.px"])[found.used, :2]
    crystal = Crystal(
        real_space=np.asarray(np.linalg.inv(found.A)),
        space_group_hall=hall,
        half_mosaicity_deg=mosaicity.half_mosaicity_deg,
        domain_size_angstrom=mosaicity.domain_size_angstrom,
    )
    rmsd = np.sqrt((residual**2).mean(axis=0))
    return Lattice(
        crystal=crystal,
        reflections=table,
        spot_rows=rows,
        rmsd_px=(float(rmsd[0]), float(rmsd[1])),
        rmsd_delta_psi_deg=float(np.degrees(np.sqrt((delta_psi[found.used] ** 2).mean()))),
        n_spots=len(offered),
        mosaicity=mosaicity,
    )


def _fill_positions(table: ReflectionTable, s1: FloatArray, detector: Detector, beam: Beam) -> None:
    """Observed positions in mm and in reciprocal space, calculated ones in px and mm, each on the spot's own panel."""
    panels = table["panel"].astype(np.int64)
    observed_px = table["xyzobs.px.value"]
    calculated_px, calculated_mm, observed_mm = (np.zeros((len(table), 3)) for _ in range(3))
    for number in np.unique(panels):
        chosen, panel = panels == number, detector[int(number)]
        calculated_px[chosen, :2] = panel.ray_to_pixel(s1[chosen])[0]
        calculated_mm[chosen, :2] = panel.pixel_to_mm(calculated_px[chosen, :2])
        observed_mm[chosen, :2] = panel.pixel_to_mm(observed_px[chosen, :2])
    calculated_px[:, 2], calculated_mm[:, 2] = observed_px[:, 2], 0.0
    table["xyzcal.px"] = calculated_px
    table["xyzcal.mm"] = calculated_mm
    table["xyzobs.mm.value"] = observed_mm
    table["rlp"] = beam.reciprocal(detector.pixel_to_lab(panels, observed_px[:, :2]))


def _flags(spots: ReflectionTable, rows: IntArray, found: Refined) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    before = spots["flags"][rows].astype(np.uint64) if "flags" in spots else np.zeros(len(rows), dtype=np.uint64)
    fate = np.where(found.used, np.uint64(Flag.USED_IN_REFINEMENT), np.uint64(Flag.CENTROID_OUTLIER))
    cleared = before & ~np.uint64(Flag.USED_IN_REFINEMENT | Flag.CENTROID_OUTLIER)
    return np.asarray(cleared | np.uint64(Flag.INDEXED) | fate)
