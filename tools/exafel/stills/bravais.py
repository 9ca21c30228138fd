"""Which Bravais lattices a primitive basis could have, and its conventional cell in each.

The twofold axes that a metric has within a tolerance (Le Page 1982, J. Appl. Cryst. 15, 255) generate the holohedries:
one axis a monoclinic lattice, two axes a dihedral group, that is an orthorhombic, rhombohedral, tetragonal or hexagonal
lattice, and nine axes a cubic one. The conventional axes are the shortest lattice vectors along the group's axes and
across them, and the volume of the cell that they span tells the centring.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import gemmi
import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.io.crystal import cell_from_basis, space_group

_CUBIC_AXES = 9
_SMALL = 4  # largest component of a lattice vector in the plane across an axis, in units of the reduced basis
_SYMBOLS = {
    "aP": "P 1",
    "mP": "P 1 2 1",
    "mC": "C 1 2 1",
    "oP": "P 2 2 2",
    "oC": "C 2 2 2",
    "oI": "I 2 2 2",
    "oF": "F 2 2 2",
    "tP": "P 4 2 2",
    "tI": "I 4 2 2",
    "hP": "P 6 2 2",
    "hR": "R 3 2:H",
    "cP": "P 4 3 2",
    "cI": "I 4 3 2",
    "cF": "F 4 3 2",
}
_ORDER = {"a": 1, "m": 2, "o": 4, "t": 8, "hR": 6, "hP": 12, "c": 24}


@dataclass(frozen=True, eq=False)
class BravaisSetting:
    """One way to look at a lattice.

    Parameters
    ----------
    lattice
        Symbol of the Bravais lattice, such as ``tP``.
    transform
        Rows a, b, c of the conventional cell in units of the primitive basis given, shape (3, 3), integers.
    obliquity_deg
        Largest angle between an axis and the normal of the planes across it; 0 where the metric has the symmetry.
    """

    lattice: str
    transform: IntArray
    obliquity_deg: float

    @property
    def hall(self) -> str:
        """Hall symbol of the symmorphic space group of the lattice's rotations."""
        return str(space_group(_SYMBOLS[self.lattice]).hall)

    @property
    def order(self) -> int:
        """Number of rotations of the lattice."""
        return _ORDER[self.lattice] if self.lattice in _ORDER else _ORDER[self.lattice[0]]


def reduce_basis(basis: FloatArray) -> FloatArray:
    """Niggli-reduced basis of the same lattice, rows a, b, c, right-handed, shape (3, 3), angstrom."""
    if np.linalg.det(basis) < 0:
        basis = -basis
    vector = gemmi.GruberVector(gemmi.UnitCell(*cell_from_basis(basis)), "P", True)
    vector.niggli_reduce(epsilon=1e-6)
    change = np.array(vector.change_of_basis.rot, dtype=np.float64) / gemmi.Op.DEN
    return np.asarray(change.T @ basis)


def bravais_settings(reduced: FloatArray, max_obliquity_deg: float) -> list[BravaisSetting]:
    """Settings that a reduced primitive basis allows, those of the highest symmetry first, triclinic last.

    Parameters
    ----------
    reduced
        Rows a, b, c, Niggli-reduced, shape (3, 3), angstrom.
    max_obliquity_deg
        How far an axis may be from the normal of its planes, deg.
    """
    cell = gemmi.UnitCell(*cell_from_basis(reduced))
    operations = gemmi.find_lattice_2fold_ops(cell, max_obliquity_deg)
    folds = [(np.array(op.rot, dtype=np.int64) // gemmi.Op.DEN, float(oblique)) for op, oblique in operations]
    settings = [BravaisSetting("aP", np.eye(3, dtype=np.int64), 0.0)]
    settings += [
        BravaisSetting(*setting, oblique)
        for fold, oblique in folds
        if (setting := _monoclinic(fold, reduced)) is not None
    ]
    seen: set[frozenset[bytes]] = set()
    for (first, _), (second, _) in combinations(folds, 2):
        group = _generated([first, second])
        if _is_new(group, seen) and (found := _dihedral(group, first @ second, reduced)) is not None:
            oblique = max(value for fold, value in folds if _holds(group, fold))
            settings.append(BravaisSetting(*found, oblique))
    if len(folds) == _CUBIC_AXES and (found := _cubic(_generated([fold for fold, _ in folds]))) is not None:
        settings.append(BravaisSetting(*found, max(oblique for _, oblique in folds)))
    return sorted(settings, key=lambda setting: (-setting.order, setting.obliquity_deg))


def _is_new(group: list[IntArray], seen: set[frozenset[bytes]]) -> bool:
    key = frozenset(element.tobytes() for element in group)
    new = key not in seen
    seen.add(key)
    return new


def _generated(generators: list[IntArray]) -> list[IntArray]:
    group = [np.eye(3, dtype=np.int64)]
    for element in group:  # grows while it is walked through
        for generator in generators:
            product = element @ generator
            if not _holds(group, product):
                if len(group) == _ORDER["c"]:
                    return group  # axes that do not belong together: no holohedry is larger
                group.append(product)
    return group


def _holds(group: list[IntArray], element: IntArray) -> bool:
    return any(np.array_equal(element, other) for other in group)


def _rotation_order(rotation: IntArray) -> int:
    """1, 2, 3, 4 or 6, from the trace; 0 for what is no rotation of a lattice."""
    return {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}.get(int(np.trace(rotation)), 0)


def _axis(rotation: IntArray) -> IntArray:
    """Shortest lattice vector along the axis of a rotation."""
    power, total = rotation, np.eye(3, dtype=np.int64)
    for _ in range(_rotation_order(rotation) - 1):
        total = total + power
        power = power @ rotation
    column = total[:, np.flatnonzero(total.any(axis=0))[0]]
    return np.asarray(column // np.gcd.reduce(column))


def _in_plane(fold: IntArray, reduced: FloatArray) -> tuple[IntArray, IntArray]:
    """Shortest two lattice vectors that a twofold axis reverses, and that are not parallel."""
    numbers = np.arange(-_SMALL, _SMALL + 1)
    vectors = np.stack(np.meshgrid(numbers, numbers, numbers, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = vectors[~(vectors @ fold.T + vectors).any(axis=1) & vectors.any(axis=1)]
    vectors = vectors[np.argsort(np.linalg.norm(vectors @ reduced, axis=1).round(9), kind="stable")]
    first = vectors[0]
    second = vectors[np.flatnonzero(np.cross(vectors, first).any(axis=1))[0]]
    return first, second


def _rows(a: IntArray, b: IntArray, c: IntArray) -> tuple[IntArray, int]:
    rows = np.stack([a, b, c])
    return rows, round(float(np.linalg.det(rows)))


def _is_vector(*axes: IntArray) -> bool:
    """Whether half of the sum of some lattice vectors is a lattice vector."""
    return not (np.sum(axes, axis=0) % 2).any()


def _monoclinic(fold: IntArray, reduced: FloatArray) -> tuple[str, IntArray] | None:
    b = _axis(fold)
    a, c = _in_plane(fold, reduced)
    volume = abs(_rows(a, b, c)[1])
    if volume == 2 and _is_vector(a, b, c):  # body-centred: a diagonal instead of the longer axis makes it C
        a = min((a + c, a - c), key=lambda diagonal: float(np.linalg.norm(diagonal @ reduced)))
    if volume == 2 and not _is_vector(a, b):
        a, c = c, a
    if volume > 2 or (volume == 2 and not _is_vector(a, b)):
        return None
    if (a @ reduced) @ (c @ reduced) > 0:
        c = -c  # beta is obtuse
    return ("mP" if volume == 1 else "mC"), _right_handed(a, b, c, flip=1)


def _right_handed(a: IntArray, b: IntArray, c: IntArray, *, flip: int) -> IntArray:
    rows, volume = _rows(a, b, c)
    if volume < 0:
        rows[flip] *= -1
    return rows


def _dihedral(group: list[IntArray], product: IntArray, reduced: FloatArray) -> tuple[str, IntArray] | None:
    fold = _rotation_order(product)
    if len(group) != 2 * fold:
        return None
    if fold == 2:
        return _orthorhombic([_axis(element) for element in group[1:]], reduced)
    c = _axis(product)
    halves = [_axis(element) for element in group if _rotation_order(element) == 2]
    across = [axis for axis in halves if np.cross(axis, c).any()]
    a = min(across, key=lambda axis: (round(float(np.linalg.norm(axis @ reduced)), 9), tuple(axis)))
    turn = product @ product if fold == 6 else product
    rows = _right_handed(a, turn @ a, c, flip=2)
    volume = abs(_rows(*rows)[1])
    if fold == 4:
        return {1: ("tP", rows), 2: ("tI", rows)}.get(volume)
    if fold == 6:
        return ("hP", rows) if volume == 1 else None
    if volume != 3:
        return None  # a hexagonal lattice, which has the sixfold axis too
    if not _is_obverse(rows):
        rows[:2] *= -1  # a reverse setting, turned by 180 degrees
    return ("hR", rows) if _is_obverse(rows) else None  # else it is a hexagonal lattice seen along its longer axes


def _is_obverse(rows: IntArray) -> bool:
    return not ((2 * rows[0] + rows[1] + rows[2]) % 3).any()


def _orthorhombic(axes: list[IntArray], reduced: FloatArray) -> tuple[str, IntArray] | None:
    a, b, c = sorted(axes, key=lambda axis: float(np.linalg.norm(axis @ reduced)))
    volume = abs(_rows(a, b, c)[1])
    if volume == 2 and not _is_vector(a, b, c):
        if _is_vector(b, c):
            a, b, c = b, c, a
        elif _is_vector(a, c):
            b, c = c, b
        return "oC", _right_handed(a, b, c, flip=2)
    lattice = {1: "oP", 2: "oI", 4: "oF"}.get(volume)
    return None if lattice is None else (lattice, _right_handed(a, b, c, flip=2))


def _cubic(group: list[IntArray]) -> tuple[str, IntArray] | None:
    axes: list[IntArray] = []
    for element in group:
        if _rotation_order(element) == 4 and not any(not np.cross(_axis(element), axis).any() for axis in axes):
            axes.append(_axis(element))
    if len(group) != _ORDER["c"] or len(axes) != 3:
        return None
    rows = _right_handed(*axes, flip=2)
    lattice = {1: "cP", 2: "cI", 4: "cF"}.get(abs(_rows(*rows)[1]))
    return None if lattice is None else (lattice, rows)


def lattice_symbol(group: gemmi.SpaceGroup) -> str:
    """Symbol of a space group's Bravais lattice, such as ``tP`` for P43212."""
    system = str(group.crystal_system_str())
    centring = str(group.hm)[0]
    if centring == "R":
        return "hR"
    family = "h" if system in ("trigonal", "hexagonal") else {"triclinic": "a"}.get(system, system[0])
    return family + ("C" if centring in "AB" else centring)
