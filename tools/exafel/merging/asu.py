"""Symmetry-reduced Miller indices of millions of reflections at once, as integer keys."""

from __future__ import annotations

import gemmi
import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray
from exafel.errors import InputError

MAX_INDEX = 1023
"""Largest |h|, |k| or |l| that a key holds."""
KEY_BITS = 37
"""Bits that a key needs."""
_BASE = 1 << 12  # twice MAX_INDEX, because h+k+... of hexagonal rotations is larger than each
_CHUNK = 1 << 16  # rows whose products with all rotations stay in the cache


class AsymmetricUnit:
    """Maps Miller indices to keys that are equal exactly for symmetry-equivalent reflections.

    A rotation acts on the packed index p = h B^2 + k B + l linearly, so that the largest |p| over the Laue group
    is one matrix product and two reductions. The key is 2 |p|max, plus one for the Bijvoet mate (-h -k -l) where
    mates are kept apart.

    Parameters
    ----------
    space_group
        Space group to merge in.
    merge_anomalous
        Whether Bijvoet mates share a key.
    """

    def __init__(self, space_group: gemmi.SpaceGroup, *, merge_anomalous: bool) -> None:
        self.space_group = space_group
        self.merge_anomalous = merge_anomalous
        self._operations = space_group.operations()
        weights = {_packed_weights(op) for op in self._operations.sym_ops}
        self._weights = np.array(sorted(weights), dtype=np.float64).T.copy()

    def keys(self, hkl: AnyArray) -> IntArray:
        """Keys of Miller indices of shape (n, 3), shape (n,).

        Raises
        ------
        InputError
            An index is larger than a key can hold.
        """
        if hkl.size and int(np.abs(hkl).max()) > MAX_INDEX:
            raise InputError(f"Miller index {int(np.abs(hkl).max())} is beyond the largest allowed, {MAX_INDEX}")
        keys = np.empty(len(hkl), dtype=np.int64)
        for start in range(0, len(hkl), _CHUNK):
            keys[start : start + _CHUNK] = self._keys(np.asarray(hkl[start : start + _CHUNK], dtype=np.float64))
        return keys

    def _keys(self, hkl: FloatArray) -> IntArray:
        packed = hkl @ self._weights  # integers below 2^53, so exact
        largest, smallest = packed.max(axis=1), packed.min(axis=1)
        plus = largest >= -smallest
        keys: IntArray = 2 * np.where(plus, largest, -smallest).astype(np.int64)
        return keys if self.merge_anomalous else keys + ~plus

    def indices(self, keys: IntArray) -> Int32Array:
        """Miller indices (n, 3) that stand for keys (n,); of the Bijvoet mate where the key says so."""
        packed = keys >> 1
        hkl = np.empty((len(keys), 3), dtype=np.int32)
        for axis in (2, 1, 0):
            component = (packed + _BASE // 2) % _BASE - _BASE // 2
            hkl[:, axis] = component
            packed = (packed - component) // _BASE
        return np.where((keys & 1).astype(bool)[:, None], -hkl, hkl)

    def absent(self, hkl: AnyArray) -> BoolArray:
        """Return where reflections (n, 3) are systematically absent, shape (n,)."""
        index = np.asarray(hkl, dtype=np.int64)
        identity = index @ np.array([_BASE * _BASE, _BASE, 1])
        result = np.zeros(len(index), dtype=bool)
        centring = [np.array(shift) for shift in self._operations.cen_ops]
        for op in self._operations.sym_ops:
            same = index @ np.array(_packed_weights(op)) == identity
            for shift in centring:
                phase = index @ (np.array(op.tran) + shift)
                result |= same & (phase % gemmi.Op.DEN != 0)
        return result

    def ccp4(self, hkl: AnyArray) -> tuple[Int32Array, BoolArray]:
        """Indices in CCP4's asymmetric unit, shape (n, 3), and whether each is of the plus hand, shape (n,)."""
        asu = gemmi.ReciprocalAsu(self.space_group)
        pairs = [asu.to_asu(index, self._operations) for index in hkl.tolist()]
        indices = np.array([pair[0] for pair in pairs], dtype=np.int32).reshape(-1, 3)
        symmetry = np.array([pair[1] for pair in pairs], dtype=np.int32)
        return indices, symmetry % 2 == 1


def _packed_weights(op: gemmi.Op) -> tuple[int, int, int]:
    rotation = np.array(op.rot) // gemmi.Op.DEN
    a, b, c = (int(value) for value in rotation @ np.array([_BASE * _BASE, _BASE, 1]))
    return a, b, c


def resolution(hkl: AnyArray, cell: gemmi.UnitCell) -> FloatArray:
    """Squared length of the reciprocal-lattice vectors of indices (n, 3), 1/d^2 in 1/angstrom^2, shape (n,)."""
    fractional = np.array(cell.frac.mat.tolist())
    reciprocal = np.asarray(hkl, dtype=np.float64) @ fractional
    squared: FloatArray = np.einsum("ij,ij->i", reciprocal, reciprocal)
    return squared
