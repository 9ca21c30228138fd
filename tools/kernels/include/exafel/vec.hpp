// Vectors and matrices in three dimensions over any number type.
#pragma once
#include "exafel/portable.hpp"

namespace exafel {
namespace EXAFEL_ISA {

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
EXAFEL_HD Vec3<T> operator+(const Vec3<T> &a, const Vec3<T> &b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class T>
EXAFEL_HD Vec3<T> operator-(const Vec3<T> &a, const Vec3<T> &b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T>
EXAFEL_HD Vec3<T> operator*(const T &s, const Vec3<T> &a) {
  return {s * a.x, s * a.y, s * a.z};
}
template <class T>
EXAFEL_HD T dot(const Vec3<T> &a, const Vec3<T> &b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class T>
EXAFEL_HD Vec3<T> cross(const Vec3<T> &a, const Vec3<T> &b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <class T>
EXAFEL_HD T norm(const Vec3<T> &a) {
  return square_root(dot(a, a));
}
template <class T>
EXAFEL_HD Vec3<T> times(const Vec3<T> &a, const Vec3<T> &b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z};
}

// Rows; m * v is the three dot products of the rows with v.
template <class T>
struct Mat3 {
  Vec3<T> rows[3];
};
template <class T>
EXAFEL_HD Vec3<T> operator*(const Mat3<T> &m, const Vec3<T> &v) {
  return {dot(m.rows[0], v), dot(m.rows[1], v), dot(m.rows[2], v)};
}
template <class T>
EXAFEL_HD Mat3<T> transpose(const Mat3<T> &m) {
  const Vec3<T> *r = m.rows;
  return {{{r[0].x, r[1].x, r[2].x}, {r[0].y, r[1].y, r[2].y}, {r[0].z, r[1].z, r[2].z}}};
}
template <class T>
EXAFEL_HD Mat3<T> operator*(const Mat3<T> &a, const Mat3<T> &b) {
  const Mat3<T> columns = transpose(b);
  return transpose(Mat3<T>{{a * columns.rows[0], a * columns.rows[1], a * columns.rows[2]}});
}
template <class T>
EXAFEL_HD Mat3<T> inverse(const Mat3<T> &m) {
  const Vec3<T> bc = cross(m.rows[1], m.rows[2]);
  const T factor = T(1.0) / dot(m.rows[0], bc);
  const Mat3<T> columns{{bc, cross(m.rows[2], m.rows[0]), cross(m.rows[0], m.rows[1])}};
  Mat3<T> result = transpose(columns);
  for (int i = 0; i < 3; ++i) result.rows[i] = factor * result.rows[i];
  return result;
}

// From three or nine plain numbers.
template <class T>
EXAFEL_HD Vec3<T> vec3(const double *p) {
  return {T(p[0]), T(p[1]), T(p[2])};
}
template <class T>
EXAFEL_HD Mat3<T> mat3(const double *p) {
  return {{vec3<T>(p), vec3<T>(p + 3), vec3<T>(p + 6)}};
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
