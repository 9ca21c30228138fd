// The diffraction forward model: photons that a crystal scatters into each pixel.
//
//   I_p = scale / (n_os^2 n_m) sum_{subpixel, layer, direction, channel s, block m} Omega P A w |F_hkl(s)|^2
//   F_latt(h)^2, q = (k_out - k_in) x_s with unit vectors k and wave number x_s = 1/lambda_s, h = (a, b, c)_m q, hkl =
//   nearest integers,
//
// which is nanoBragg's model (Lyubimov et al. 2016, J. Appl. Cryst. 49, 1057; Mendez et al. 2020, IUCrJ 7, 1151).
// Lengths of the crystal in angstrom, of the detector in mm. Every formula is written once, for a number type T:
// double, float, vectors of them, and dual numbers, which give the derivatives.
#pragma once
#include "exafel/bragg_scene.hpp"
#include "exafel/vec.hpp"

namespace exafel {
namespace EXAFEL_ISA {

// The Gauss shape is exp(-(N dh)^2 / 0.63): 0.63 makes its integral that of the sinc of a block of N cells.
constexpr double gauss_width = 0.63;
// The round shape has the volume and the amplitude that nanoBragg gives it.
constexpr double round_factor = 0.723601254558268;

// N dh for wave number centre + offset: how far it misses the reflection, in widths of the lattice's maximum.
// `miss` is dh at the central wave number, u = (a, b, c)(k_out - k_in).
template <class T>
EXAFEL_HD Vec3<T> misses(const Vec3<T> &n, const Vec3<T> &miss, const Vec3<T> &u, const T &offset) {
  return {n.x * (miss.x + offset * u.x), n.y * (miss.y + offset * u.y), n.z * (miss.z + offset * u.z)};
}

// sin(pi N d) / (N sin(pi d)) with y = N d: the interference of N cells along one axis. Near its maximum by its series.
template <class T>
EXAFEL_HD T grating(const T &n, const T &y) {
  const T angle = T(pi) * y, small = angle / n;
  const T ratio = sine(angle) / (n * sine(small) + T(1e-30));
  const T square = small * small, n2 = n * n;
  const T series = T(1.0) - square * (n2 - T(1.0)) / T(6.0);
  return choose(angle * angle, 1e-7, series, ratio);
}

// 3 (sin r - r cos r) / r^3, the transform of a ball, of r^2. Its series is sum_k 3 (-1)^k (2k + 2) / (2k + 3)! r^2k.
template <class T>
EXAFEL_HD T ball(const T &r2) {
  const T r = square_root(r2 + T(1e-30));
  const T closed = T(3.0) * (sine(r) - r * cosine(r)) / (r * r2 + T(1e-30));
  T series = T(1.0 / 31135104000.0);
  series = series * r2 - T(1.0 / 172972800);
  series = series * r2 + T(1.0 / 1330560);
  series = series * r2 - T(1.0 / 15120);
  series = series * r2 + T(1.0 / 280);
  series = series * r2 - T(1.0 / 10);
  series = series * r2 + T(1.0);
  return choose(r2, 1.0, series, closed);
}

// (F_latt / (Na Nb Nc))^2 of the crystal's shape, y = N dh.
template <Shape shape, class T>
EXAFEL_HD T lattice_factor(const Vec3<T> &n, const Vec3<T> &y) {
  if (shape == Shape::gauss) return exp_decay(T(-2 / gauss_width) * dot(y, y));
  if (shape == Shape::square) {
    const T f = grating(n.x, y.x) * grating(n.y, y.y) * grating(n.z, y.z);
    return f * f;
  }
  if (shape == Shape::round) {
    const T f = T(round_factor) * ball(T(pi * pi) * dot(y, y));
    return f * f;
  }
  return choose(dot(y, y), gauss_width * gauss_width, T(1.0), T(0.0));
}

// |N dh|^2 beyond which lattice_factor is below exp(-cut).
EXAFEL_HD double shape_limit(Shape shape, double cut) {
  if (shape == Shape::gauss) return cut * gauss_width / 2;
  if (shape == Shape::square) return 0.75 * exponential(cut);  // sin(pi d) >= 2 |d| along the axis with the most
  if (shape == Shape::round) return 3 * round_factor / (pi * pi) * exponential(cut / 2);
  return gauss_width * gauss_width;
}

template <class T>
struct Panel {
  Vec3<T> origin, fast, slow, normal;
  T pixel_fast, pixel_slow;
  T close;  // distance of its plane from the sample
  T thickness, absorption;
};

// From its numbers; `shift` moves it along `beam`.
template <class T>
EXAFEL_HD Panel<T> panel_of(const double *p, const double *beam, const T &shift) {
  const Vec3<T> fast = vec3<T>(p + 3), slow = vec3<T>(p + 6);
  const Vec3<double> along = cross(vec3<double>(p + 3), vec3<double>(p + 6));
  const double side = dot(vec3<double>(p), along) < 0 ? -1.0 : 1.0;  // the normal points away from the sample
  const Vec3<T> normal = T(side) * cross(fast, slow);
  const Vec3<T> origin = vec3<T>(p) + shift * vec3<T>(beam);
  return {origin, fast, slow, normal, T(p[9]), T(p[10]), dot(origin, normal), T(p[13]), T(p[14])};
}

template <class T>
struct Beam {
  Vec3<T> direction;          // unit vector along which the light travels
  Vec3<T> polarization_axis;  // unit vector of the electric field
  T polarization;             // Kahn factor
};

// From the sample to a point of a panel.
template <class T>
struct Ray {
  Vec3<T> direction;  // unit vector
  T length;           // mm
};

// P = 1/2 [1 + cos^2(2 theta) - p cos(2 psi) sin^2(2 theta)] (Kahn et al. 1982, J. Appl. Cryst. 15, 330), psi the
// azimuth from the polarization axis. With e and m the components of k_out along that axis and across it, both normal
// to the beam, sin^2(2 theta) = e^2 + m^2 and cos(2 psi) sin^2(2 theta) = e^2 - m^2: no angle has to be computed.
template <class T>
EXAFEL_HD T polarization_factor(const Beam<T> &beam, const Vec3<T> &k_out) {
  const T c = dot(k_out, beam.direction);
  const T e = dot(k_out, beam.polarization_axis);
  const T m = dot(k_out, cross(beam.direction, beam.polarization_axis));
  return T(0.5) * (T(1.0) + c * c - beam.polarization * (e * e - m * m));
}

// (fast, slow) in pixels, the centre of the first pixel at (0.5, 0.5); `depth` behind the sensor's surface, mm.
template <class T>
EXAFEL_HD Ray<T> ray_to(const Panel<T> &panel, const T &fast, const T &slow, const T &depth) {
  const Vec3<T> lab = panel.origin + (fast * panel.pixel_fast) * panel.fast + (slow * panel.pixel_slow) * panel.slow +
                      depth * panel.normal;
  const T length = norm(lab);
  return {(T(1.0) / length) * lab, length};
}

// Omega = pixel^2 / L^2 times the cosine of the angle of incidence.
template <class T>
EXAFEL_HD T solid_angle(const Panel<T> &panel, const Ray<T> &ray, const T &depth) {
  return panel.pixel_fast * panel.pixel_slow * (panel.close + depth) / (ray.length * ray.length * ray.length);
}

// The fraction of photons that layer `layer` of `n_layers` absorbs: they pass through it at an angle (parallax).
template <class T>
EXAFEL_HD T absorbed_in_layer(const Panel<T> &panel, const Ray<T> &ray, int layer, int n_layers) {
  const T path = panel.absorption * panel.thickness / (T(1.0 * n_layers) * dot(ray.direction, panel.normal));
  return exp_decay(T(-1.0 * layer) * path) * (T(1.0) - exp_decay(-path));
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
