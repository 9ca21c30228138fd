// Reflections near the Ewald sphere.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace exafel {

// Angle between the reciprocal-lattice point q and the Ewald sphere, about the axis normal to q and s0, with DIALS' sign:
// positive for points inside the sphere. NaN for a point that no rotation brings there.
inline double delta_psi(const double *q, const double *s0) {
  const double k2 = s0[0] * s0[0] + s0[1] * s0[1] + s0[2] * s0[2];
  const double q2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2];
  const double along = (q[0] * s0[0] + q[1] * s0[1] + q[2] * s0[2]) / std::sqrt(k2);
  const double wanted = -q2 / (2 * std::sqrt(k2));  // component of q along s0 on the sphere
  if (wanted * wanted > q2) return std::nan("");
  const double now = std::atan2(std::sqrt(std::fmax(q2 - along * along, 0.0)), along);
  const double then = std::atan2(std::sqrt(q2 - wanted * wanted), wanted);
  return now - then;
}

// Indices of all reflections with d >= d_min and |delta_psi| <= half_mosaicity + d/domain_size + bandwidth tan(theta)
// (half widths: Nave 2014, Sauter et al. 2014; the domain size as DIALS writes it), in the order of h, k, l. `A` is row-major, its columns a*, b*, c*.
inline std::vector<int32_t> reflections_near_sphere(const double *A, const double *s0, double d_min,
                                                    double half_mosaicity, double domain_size, double half_bandwidth) {
  // |h| <= |a| / d_min; the real-space axes are the rows of the inverse of A.
  const auto cross = [](const double *u, const double *v, double *w) {
    w[0] = u[1] * v[2] - u[2] * v[1], w[1] = u[2] * v[0] - u[0] * v[2], w[2] = u[0] * v[1] - u[1] * v[0];
  };
  const double column[3][3] = {{A[0], A[3], A[6]}, {A[1], A[4], A[7]}, {A[2], A[5], A[8]}};
  double normal[3][3];
  for (int i = 0; i < 3; ++i) cross(column[(i + 1) % 3], column[(i + 2) % 3], normal[i]);
  const double volume = std::fabs(column[0][0] * normal[0][0] + column[0][1] * normal[0][1] + column[0][2] * normal[0][2]);
  int limit[3];
  for (int i = 0; i < 3; ++i)
    limit[i] = static_cast<int>(std::sqrt(normal[i][0] * normal[i][0] + normal[i][1] * normal[i][1] +
                                          normal[i][2] * normal[i][2]) / volume / d_min);
  const double wavelength = 1 / std::sqrt(s0[0] * s0[0] + s0[1] * s0[1] + s0[2] * s0[2]);
  const double q2_max = 1 / (d_min * d_min);
  const double widest = half_mosaicity + half_bandwidth;  // bandwidth tan(theta) stays below for theta < 45 deg
  std::vector<int32_t> hkl;
  for (int h = -limit[0]; h <= limit[0]; ++h)
    for (int k = -limit[1]; k <= limit[1]; ++k) {
      const double base[3] = {h * A[0] + k * A[1], h * A[3] + k * A[4], h * A[6] + k * A[7]};
      for (int l = -limit[2]; l <= limit[2]; ++l) {
        const double q[3] = {base[0] + l * A[2], base[1] + l * A[5], base[2] + l * A[8]};
        const double q2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2];
        if (q2 > q2_max || (h == 0 && k == 0 && l == 0)) continue;
        const double excess = q2 + 2 * (q[0] * s0[0] + q[1] * s0[1] + q[2] * s0[2]);  // |s0 + q|^2 - |s0|^2
        const double length = std::sqrt(q2), sine = 0.5 * wavelength * length;
        if (sine >= 1) continue;
        const double cosine = std::sqrt(1 - sine * sine);
        // Cheap test first: to first order delta_psi = excess / (2 |s0| |q| cos(theta)).
        const double first_order = std::fabs(excess) * wavelength / (2 * length * cosine);
        if (first_order > 2 * (widest * (1 + sine / cosine) + 1.0 / (length * domain_size)) + 1e-3) continue;
        const double angle = delta_psi(q, s0);
        if (std::fabs(angle) > half_mosaicity + 1.0 / (length * domain_size) + half_bandwidth * sine / cosine) continue;
        hkl.push_back(h), hkl.push_back(k), hkl.push_back(l);
      }
    }
  return hkl;
}

}  // namespace exafel
