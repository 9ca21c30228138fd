// Postrefinement of a still: how much of each reflection the Ewald sphere met, and the normal equations of its parameters.
//
// An observation is modelled as G exp(-2 B s^2) p I, with s = sin(theta)/lambda, p = r^2/(2 Rh^2 + r^2) the Lorentzian
// partiality and Rh = |Ry Rx A h + s0| - 1/lambda the distance of the node from the Ewald sphere (Sauter et al. 2013;
// Sauter 2015, J. Synchrotron Rad. 22, 239). The width r = RS + ETA/(2 d) is that of the domains and, growing with the
// distance from the origin, that of the mosaic and energy spread.
#pragma once
#include <cmath>
#include <cstddef>

namespace exafel {

constexpr int n_postrefined = 6;  // G, B, RS, ETA, theta_x, theta_y

class StillModel {
 public:
  StillModel(const double *parameters, const double *s0)
      : g_(parameters[0]),
        b_(parameters[1]),
        rs_(parameters[2]),
        eta_(parameters[3]),
        cx_(std::cos(parameters[4])),
        sx_(std::sin(parameters[4])),
        cy_(std::cos(parameters[5])),
        sy_(std::sin(parameters[5])),
        s0_{s0[0], s0[1], s0[2]},
        radius_(std::sqrt(s0[0] * s0[0] + s0[1] * s0[1] + s0[2] * s0[2])) {}

  // Partiality of a node r = A h; the factor G exp(-2 B s^2) goes to `scale`, and where `slopes` is not null, the
  // derivatives of scale * partiality go there.
  double partiality(const double *r, double &scale, double *slopes) const {
    const double y1 = cx_ * r[1] - sx_ * r[2], z1 = sx_ * r[1] + cx_ * r[2];  // Rx r, whose x is r[0]
    const double q[3] = {cy_ * r[0] + sy_ * z1, y1, -sy_ * r[0] + cy_ * z1};
    const double ray[3] = {q[0] + s0_[0], q[1] + s0_[1], q[2] + s0_[2]};
    const double length = std::sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]);
    const double off = length - radius_;
    const double s_squared = 0.25 * (r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    const double falloff = std::exp(-2.0 * b_ * s_squared);
    const double radius = rs_ + eta_ * std::sqrt(s_squared);  // 1/(2 d) = s
    const double width = 2.0 * off * off + radius * radius;
    const double p = radius * radius / width;
    scale = g_ * falloff;
    if (slopes != nullptr) {
      const double by_off = -4.0 * off / width * p * scale;
      // dq/dtheta_x = Ry (0, -z1, y1), dq/dtheta_y = (q_z, 0, -q_x)
      const double tilt_x = (ray[0] * sy_ * y1 - ray[1] * z1 + ray[2] * cy_ * y1) / length;
      const double tilt_y = (ray[0] * q[2] - ray[2] * q[0]) / length;
      slopes[0] = falloff * p;
      slopes[1] = -2.0 * s_squared * scale * p;
      slopes[2] = 4.0 * off * off / (radius * width) * p * scale;
      slopes[3] = std::sqrt(s_squared) * slopes[2];
      slopes[4] = by_off * tilt_x;
      slopes[5] = by_off * tilt_y;
    }
    return p;
  }

 private:
  double g_, b_, rs_, eta_, cx_, sx_, cy_, sy_;
  double s0_[3], radius_;
};

// Adds up 1/2 sum w (model - observed)^2, its gradient (6) and Gauss-Newton matrix (6 x 6); returns the first.
inline double postrefine_normal(const StillModel &model, std::size_t n, const double *nodes, const double *observed,
                                const double *reference, const double *weight, double *gradient, double *normal) {
  double target = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    double scale, slopes[n_postrefined];
    const double p = model.partiality(nodes + 3 * i, scale, slopes);
    const double residual = scale * p * reference[i] - observed[i];
    target += 0.5 * weight[i] * residual * residual;
    for (int a = 0; a < n_postrefined; ++a) {
      slopes[a] *= reference[i];
      gradient[a] += weight[i] * residual * slopes[a];
      for (int b = 0; b <= a; ++b) normal[n_postrefined * a + b] += weight[i] * slopes[a] * slopes[b];
    }
  }
  for (int a = 0; a < n_postrefined; ++a)
    for (int b = a + 1; b < n_postrefined; ++b) normal[n_postrefined * a + b] = normal[n_postrefined * b + a];
  return target;
}

}  // namespace exafel
