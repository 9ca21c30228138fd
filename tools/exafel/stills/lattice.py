"""One indexed and refined lattice of one shot."""

from __future__ import annotations

from dataclasses import dataclass

from exafel.arrays import IntArray
from exafel.io.crystal import Crystal
from exafel.io.reflections import ReflectionTable


@dataclass(frozen=True)
class Mosaicity:
    """Result of the mosaicity fit.

    Parameters
    ----------
    half_mosaicity_deg
        Half of the full angular spread of the mosaic blocks, deg; None where the data do not determine it.
    domain_size_angstrom
        Size of a mosaic block; None where the data do not determine it (the fit ran to a bound).
    degenerate
        Whether one of the two could not be determined.
    """

    half_mosaicity_deg: float | None
    domain_size_angstrom: float | None
    degenerate: bool = False


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
