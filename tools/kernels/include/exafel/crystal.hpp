// Real-space bases of a crystal's mosaic blocks from its orientation, cell and mosaic spread.
#pragma once
#include "exafel/vec.hpp"

namespace exafel {
namespace EXAFEL_ISA {

// Columns a, b, c of a cell (angstrom, radians) in its own frame: a along x, b in the plane of x and y, as the PDB has
// it.
template <class T>
EXAFEL_HD Mat3<T> orthogonalization(const T *cell) {
  const T ca = cosine(cell[3]), cb = cosine(cell[4]), cg = cosine(cell[5]), sg = sine(cell[5]);
  const T across = (ca - cb * cg) / sg;
  const T up = square_root(T(1.0) - cb * cb - across * across);
  const T zero(0.0);
  return {{{cell[0], cell[1] * cg, cell[2] * cb}, {zero, cell[1] * sg, cell[2] * across}, {zero, zero, cell[2] * up}}};
}

// Rotation by the vector v: about it, by its length in radians, which is below one (Rodrigues; the functions of the
// angle by their series in its square, which have derivatives at zero too).
template <class T>
EXAFEL_HD Mat3<T> rotation(const Vec3<T> &v) {
  const T square = dot(v, v);
  T sinc(0.0), versine(0.0);
  for (int k = 8; k >= 0; --k) {
    sinc = T(1.0) - sinc * square / T((2.0 * k + 2) * (2 * k + 3));
    versine = T(1.0) - versine * square / T((2.0 * k + 3) * (2 * k + 4));
  }
  versine = versine / T(2.0);
  const Vec3<T> s = sinc * v;
  const T diagonal = T(1.0) - versine * square;
  const Vec3<T> w = versine * v;
  return {{{diagonal + w.x * v.x, w.x * v.y - s.z, w.x * v.z + s.y},
           {w.y * v.x + s.z, diagonal + w.y * v.y, w.y * v.z - s.x},
           {w.z * v.x - s.y, w.z * v.y + s.x, diagonal + w.z * v.z}}};
}

// Rows a, b, c of a block in the laboratory: R_x R_y R_z U R(spread . axis) O(cell), transposed. `turns` are angles
// about the laboratory's axes (radians), U the orientation before them, `spread` the mosaic spread about the axes of
// the crystal's own frame (radians), and `axis` this block's draw from the distribution of unit spread.
template <class T>
EXAFEL_HD Mat3<T> block_basis(const T *turns, const Mat3<T> &orientation, const T *cell, const T *spread,
                              const double *axis) {
  const T zero(0.0);
  const Mat3<T> x = rotation(Vec3<T>{turns[0], zero, zero}), y = rotation(Vec3<T>{zero, turns[1], zero}),
                z = rotation(Vec3<T>{zero, zero, turns[2]});
  const Mat3<T> mosaic = rotation(Vec3<T>{spread[0] * T(axis[0]), spread[1] * T(axis[1]), spread[2] * T(axis[2])});
  return transpose(x * (y * (z * (orientation * (mosaic * orthogonalization(cell))))));
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
