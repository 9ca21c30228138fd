// The diffraction forward model: photons that a crystal scatters into each pixel.
//
//   I_p = scale Omega_p P_p / (n_os^2 n_m) sum_{subpixel, channel s, block m} w_s |F_hkl|^2 F_latt(h)^2,
//   q = (k_out - k_in) x_s with unit vectors k and wave number x_s = 1/lambda_s, h = (a, b, c)_m q, hkl = nearest integers,
//   F_latt^2 = (Na Nb Nc)^2 exp(-2 |N (h - hkl)|^2 / 0.63),
//
// which is nanoBragg's model with the Gauss shape (Lyubimov et al. 2016, J. Appl. Cryst. 49, 1057; Mendez et al. 2020,
// IUCrJ 7, 1151). Lengths of the crystal in angstrom, of the detector in mm.
//
// Everything here lives in a namespace of its own for each instruction set and uses no template of the standard library:
// the linker would otherwise keep one copy of such a function, made for whatever processor, for all callers.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef EXAFEL_ISA
#define EXAFEL_ISA baseline
#endif

namespace exafel {
namespace EXAFEL_ISA {

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
inline Vec3<T> operator+(const Vec3<T> &a, const Vec3<T> &b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
template <class T>
inline Vec3<T> operator-(const Vec3<T> &a, const Vec3<T> &b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
template <class T>
inline Vec3<T> operator*(const T &s, const Vec3<T> &a) { return {s * a.x, s * a.y, s * a.z}; }
template <class T>
inline T dot(const Vec3<T> &a, const Vec3<T> &b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
template <class T>
inline Vec3<T> cross(const Vec3<T> &a, const Vec3<T> &b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <class T>
inline T norm(const Vec3<T> &a) {
  using std::sqrt;
  return sqrt(dot(a, a));
}

// Rows; m * v is the three dot products of the rows with v.
template <class T>
struct Mat3 {
  Vec3<T> rows[3];
};
template <class T>
inline Vec3<T> operator*(const Mat3<T> &m, const Vec3<T> &v) { return {dot(m.rows[0], v), dot(m.rows[1], v), dot(m.rows[2], v)}; }
template <class T>
inline Mat3<T> transpose(const Mat3<T> &m) {
  const Vec3<T> *r = m.rows;
  return {{{r[0].x, r[1].x, r[2].x}, {r[0].y, r[1].y, r[2].y}, {r[0].z, r[1].z, r[2].z}}};
}
template <class T>
inline Mat3<T> inverse(const Mat3<T> &m) {
  const Vec3<T> bc = cross(m.rows[1], m.rows[2]);
  const T volume = dot(m.rows[0], bc);
  const Mat3<T> columns{{bc, cross(m.rows[2], m.rows[0]), cross(m.rows[0], m.rows[1])}};
  Mat3<T> result = transpose(columns);
  for (auto &row : result.rows) row = (T(1) / volume) * row;
  return result;
}

// The Gauss shape's exponent is -2 |N dh|^2 / 0.63: 0.63 makes its integral that of the sinc^2 of a block of N cells.
constexpr double gauss_width = 0.63;

// |N (x u - hkl)|^2: how far wave number x misses the reflection in a pixel with u = (a, b, c)(k_out - k_in).
template <class T>
inline T miss_squared(const Vec3<T> &n, const Vec3<T> &u, const T &x, const T &h, const T &k, const T &l) {
  const T dh = n.x * (x * u.x - h), dk = n.y * (x * u.y - k), dl = n.z * (x * u.z - l);
  return dh * dh + dk * dk + dl * dl;
}

// exp(x) for -700 <= x <= 0 to one unit in the last place, by operations that compilers turn into vector code
// and that give the same bits on every instruction set.
inline double exp_decay(double x) {
  constexpr double log2e = 1.4426950408889634, ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, found in the low bits
  const double shifted = x * log2e + magic;
  const double n = shifted - magic;
  const double r = (x - n * ln2_high) - n * ln2_low;
  double p = 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  std::uint64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023) << 52;
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

template <class T>
struct Panel {
  Vec3<T> origin, fast, slow;
  T pixel_fast, pixel_slow;
  T close;  // distance of its plane from the sample
  int n_fast, n_slow;
};

template <class T>
struct Beam {
  Vec3<T> direction;          // unit vector along which the light travels
  Vec3<T> polarization_axis;  // unit vector of the electric field
  T polarization;             // Kahn factor: 1 for fully polarized, 0 for unpolarized
};

// From the sample to a point of a panel.
template <class T>
struct Ray {
  Vec3<T> direction;  // unit vector
  T length;           // mm
};

// P = 1/2 [1 + cos^2(2 theta) - p cos(2 psi) sin^2(2 theta)] (Kahn et al. 1982, J. Appl. Cryst. 15, 330), psi the azimuth
// from the polarization axis. With e and m the components of k_out along that axis and across it, both normal to the
// beam, sin^2(2 theta) = e^2 + m^2 and cos(2 psi) sin^2(2 theta) = e^2 - m^2: no angle has to be computed.
template <class T>
inline T polarization_factor(const Beam<T> &beam, const Vec3<T> &k_out) {
  const T c = dot(k_out, beam.direction);
  const T e = dot(k_out, beam.polarization_axis);
  const T m = dot(k_out, cross(beam.direction, beam.polarization_axis));
  return T(0.5) * (T(1) + c * c - beam.polarization * (e * e - m * m));
}

// (fast, slow) in pixels; the centre of the first pixel is at (0.5, 0.5).
template <class T>
inline Ray<T> ray_to(const Panel<T> &panel, T fast, T slow) {
  const Vec3<T> lab = panel.origin + (fast * panel.pixel_fast) * panel.fast + (slow * panel.pixel_slow) * panel.slow;
  const T length = norm(lab);
  return {(T(1) / length) * lab, length};
}

// Omega P: what a (sub)pixel contributes whatever the crystal.
template <class T>
inline T omega_p(const Panel<T> &panel, const Beam<T> &beam, const Ray<T> &ray) {
  const T omega = panel.pixel_fast * panel.pixel_slow * panel.close / (ray.length * ray.length * ray.length);
  return omega * polarization_factor(beam, ray.direction);
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
