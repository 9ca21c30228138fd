// Integration of predicted reflections on one panel by summation and by a Gaussian profile: elliptical foreground, plane
// background.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace exafel {

// A reflection is at (x, y); a pixel at offset v from there has the squared reduced distance v^T M v with
// M = (mxx, mxy; mxy, myy), 1 on the border of the foreground.
struct Prediction {
  double x, y, mxx, mxy, myy;
};

struct IntegrationParameters {
  double gain;               // counts (ADU) a photon
  double outlier_sigma;      // background pixels farther from the plane than this many standard deviations are left out
  int max_rejections;        // rounds of that
  int min_background;        // pixels that a background needs
  double gap, background;    // the background lies between (1 + gap) and (1 + gap + background) foreground radii
  double min_width_px;       // ... and is at least this wide
  double profile_sigma;      // foreground radius in standard deviations of the profile; 0: no profile fit
};

struct Integrated {
  int32_t x0, x1, y0, y1;
  int32_t n_foreground, n_valid, n_overlapped, n_background, n_background_used;
  double intensity, variance, background_mean, background_sum, background_variance, background_mse;
  double profile_intensity, profile_variance, profile_correlation;
  double x, y, x_variance, y_variance;  // centroid of the counts above background
  int32_t status;                       // 0 integrated; 1 bad pixels in the foreground or off the panel; 2 no background
};

namespace detail {

inline double reduced(const Prediction &p, double dx, double dy) {
  return p.mxx * dx * dx + 2 * p.mxy * dx * dy + p.myy * dy * dy;
}

// Radius of the circle of the foreground's area.
inline double mean_radius(const Prediction &p) {
  return 1 / std::sqrt(std::sqrt(std::max(p.mxx * p.myy - p.mxy * p.mxy, 1e-12)));
}

// Factor on the foreground's radii that reaches the background's far side.
inline double outer_scale(const Prediction &p, const IntegrationParameters &q) {
  return 1 + q.gap + std::max(q.background, q.min_width_px / mean_radius(p));
}

// Calls visit(x, y, squared reduced distance) for the pixels within `scale` foreground radii; false where the ellipse
// sticks out of the panel.
template <class Visit>
bool each_pixel(const Prediction &p, double scale, int64_t n_slow, int64_t n_fast, Visit visit) {
  const double det = p.mxx * p.myy - p.mxy * p.mxy;
  const double rx = scale * std::sqrt(p.myy / det), ry = scale * std::sqrt(p.mxx / det);
  // Pixel i has its centre at i + 0.5.
  const auto x0 = static_cast<int64_t>(std::ceil(p.x - rx - 0.5)), x1 = static_cast<int64_t>(std::floor(p.x + rx - 0.5));
  const auto y0 = static_cast<int64_t>(std::ceil(p.y - ry - 0.5)), y1 = static_cast<int64_t>(std::floor(p.y + ry - 0.5));
  bool inside = true;
  for (int64_t y = y0; y <= y1; ++y)
    for (int64_t x = x0; x <= x1; ++x) {
      const double r2 = reduced(p, static_cast<double>(x) + 0.5 - p.x, static_cast<double>(y) + 0.5 - p.y);
      if (r2 > scale * scale) continue;
      if (x < 0 || y < 0 || x >= n_fast || y >= n_slow)
        inside = false;
      else
        visit(x, y, r2);
    }
  return inside;
}

struct Sample {
  double x, y, value;
  bool used;
};

// Least-squares plane a + b x + c y with rejection of outliers; `spread` is the standard deviation about it.
struct Plane {
  double a = 0, b = 0, c = 0, mse = 0;
  int32_t used = 0;

  double at(double x, double y) const { return a + b * x + c * y; }

  bool solve(const std::vector<Sample> &samples) {
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0, s = 0, sxv = 0, syv = 0;
    for (const Sample &p : samples) {
      if (!p.used) continue;
      n += 1, sx += p.x, sy += p.y, sxx += p.x * p.x, sxy += p.x * p.y, syy += p.y * p.y;
      s += p.value, sxv += p.x * p.value, syv += p.y * p.value;
    }
    used = static_cast<int32_t>(n);
    if (n < 4) return false;
    // Around the centre of mass the constant stands apart, and two equations are left.
    const double mx = sx / n, my = sy / n, mv = s / n;
    const double cxx = sxx - n * mx * mx, cxy = sxy - n * mx * my, cyy = syy - n * my * my;
    const double cxv = sxv - n * mx * mv, cyv = syv - n * my * mv;
    const double det = cxx * cyy - cxy * cxy;
    if (det <= 1e-9 * (cxx + cyy) * (cxx + cyy)) return false;
    b = (cxv * cyy - cyv * cxy) / det, c = (cyv * cxx - cxv * cxy) / det;
    a = mv - b * mx - c * my;
    double squares = 0;
    for (const Sample &p : samples)
      if (p.used) squares += (p.value - at(p.x, p.y)) * (p.value - at(p.x, p.y));
    mse = squares / (n - 3);
    return true;
  }

  bool fit(std::vector<Sample> &samples, const IntegrationParameters &q) {
    if (!solve(samples)) return false;
    for (int round = 0; round < q.max_rejections; ++round) {
      const double spread = std::sqrt(std::max(mse, 1e-12));
      int rejected = 0;
      for (Sample &p : samples)
        if (p.used && std::fabs(p.value - at(p.x, p.y)) > q.outlier_sigma * spread) p.used = false, ++rejected;
      if (rejected == 0) break;
      if (!solve(samples)) return false;
    }
    return used >= q.min_background;
  }
};

// Fits intensity times a Gaussian profile, of sum 1 over the foreground, to the counts above the plane. The weights are the
// inverse variances that the present fit expects, so they do not follow the counts' own fluctuations.
template <class T>
void fit_profile(const T *image, int64_t n_slow, int64_t n_fast, const Prediction &p, const IntegrationParameters &q,
                 const Plane &plane, Integrated &r) {
  constexpr int rounds = 4;
  const double exponent = -0.5 * q.profile_sigma * q.profile_sigma;
  double norm = 0;
  each_pixel(p, 1.0, n_slow, n_fast, [&](int64_t, int64_t, double r2) { norm += std::exp(exponent * r2); });
  double intensity = std::max(r.intensity, 0.0), information = 0, leverage = 0;
  for (int round = 0; round < rounds; ++round) {
    double sum = 0;
    information = leverage = 0;
    each_pixel(p, 1.0, n_slow, n_fast, [&](int64_t x, int64_t y, double r2) {
      const double dx = static_cast<double>(x) + 0.5 - p.x, dy = static_cast<double>(y) + 0.5 - p.y;
      const double under = plane.at(dx, dy), part = std::exp(exponent * r2) / norm;
      // a background of nothing still leaves the chance of a photon
      const double weight = part / (q.gain * (std::max(under, 0.0) + intensity * part) + 0.1 * q.gain * q.gain);
      sum += weight * (static_cast<double>(image[y * n_fast + x]) - under);
      information += weight * part, leverage += weight;
    });
    r.profile_intensity = sum / information;
    intensity = std::max(r.profile_intensity, 0.0);
  }
  const double share = leverage / information;  // of an error of the plane that goes into the intensity
  r.profile_variance = 1 / information + share * share * q.gain * std::fabs(r.background_mean) / plane.used;
  double pp = 0, vv = 0, pv = 0, sp = 0, sv = 0, n = 0;
  each_pixel(p, 1.0, n_slow, n_fast, [&](int64_t x, int64_t y, double r2) {
    const double dx = static_cast<double>(x) + 0.5 - p.x, dy = static_cast<double>(y) + 0.5 - p.y;
    const double part = std::exp(exponent * r2), value = static_cast<double>(image[y * n_fast + x]) - plane.at(dx, dy);
    n += 1, sp += part, sv += value, pp += part * part, vv += value * value, pv += part * value;
  });
  const double scale = (pp - sp * sp / n) * (vv - sv * sv / n);
  r.profile_correlation = scale > 0 ? (pv - sp * sv / n) / std::sqrt(scale) : 0;
}

template <class T>
Integrated integrate_one(const T *image, const uint8_t *mask, const uint8_t *covered, int64_t n_slow, int64_t n_fast,
                         const Prediction &p, const IntegrationParameters &q, std::vector<Sample> &samples) {
  Integrated r{};
  const double outer = outer_scale(p, q), inner = (1 + q.gap) * (1 + q.gap);
  r.x0 = r.y0 = INT32_MAX;
  samples.clear();
  double n = 0, total = 0;
  each_pixel(p, outer, n_slow, n_fast, [&](int64_t x, int64_t y, double r2) {
    r.x0 = std::min(r.x0, static_cast<int32_t>(x)), r.x1 = std::max(r.x1, static_cast<int32_t>(x + 1));
    r.y0 = std::min(r.y0, static_cast<int32_t>(y)), r.y1 = std::max(r.y1, static_cast<int32_t>(y + 1));
    const int64_t k = y * n_fast + x;
    if (r2 <= 1) {
      ++r.n_foreground;
      r.n_overlapped += covered[k] > 1 ? 1 : 0;
      if (mask[k] == 0) return;
      ++r.n_valid;
      total += static_cast<double>(image[k]), n += 1;
    } else if (r2 >= inner && mask[k] != 0 && covered[k] == 0) {
      ++r.n_background;
      samples.push_back({static_cast<double>(x) + 0.5 - p.x, static_cast<double>(y) + 0.5 - p.y,
                         static_cast<double>(image[k]), true});
    }
  });
  if (r.x0 == INT32_MAX) r.x0 = r.y0 = r.x1 = r.y1 = 0;
  const bool whole = each_pixel(p, 1.0, n_slow, n_fast, [](int64_t, int64_t, double) {});
  if (!whole || r.n_valid < r.n_foreground || r.n_foreground == 0) {
    r.status = 1;
    return r;
  }
  Plane plane;
  const bool good = r.n_background >= q.min_background && plane.fit(samples, q);
  r.n_background_used = plane.used;
  if (!good) {
    r.status = 2;
    return r;
  }
  double wx = 0, wy = 0, vx = 0, vy = 0;
  each_pixel(p, 1.0, n_slow, n_fast, [&](int64_t x, int64_t y, double) {
    const double dx = static_cast<double>(x) + 0.5 - p.x, dy = static_cast<double>(y) + 0.5 - p.y;
    const double under = plane.at(dx, dy), above = static_cast<double>(image[y * n_fast + x]) - under;
    r.background_sum += under;
    wx += above * dx, wy += above * dy;
  });
  r.intensity = total - r.background_sum;
  r.background_mean = r.background_sum / n;
  r.background_mse = plane.mse;
  r.background_variance = q.gain * std::fabs(r.background_sum) * (1 + n / plane.used);
  r.variance = q.gain * std::fabs(r.intensity) + r.background_variance;
  if (q.profile_sigma > 0) fit_profile(image, n_slow, n_fast, p, q, plane, r);
  r.x = p.x, r.y = p.y;
  r.x_variance = r.y_variance = detail::mean_radius(p) * detail::mean_radius(p) / 4;  // of a flat disc
  const double significance = r.intensity / std::sqrt(std::max(r.variance, 1e-12));
  if (significance < 3) return r;  // the counts do not say where the spot is: leave it where it was predicted
  const double mx = wx / r.intensity, my = wy / r.intensity;
  if (reduced(p, mx, my) > 1) return r;
  each_pixel(p, 1.0, n_slow, n_fast, [&](int64_t x, int64_t y, double) {
    const double dx = static_cast<double>(x) + 0.5 - p.x - mx, dy = static_cast<double>(y) + 0.5 - p.y - my;
    const double variance = q.gain * std::max(static_cast<double>(image[y * n_fast + x]), 0.0);
    vx += variance * (dx * dx + 1.0 / 12), vy += variance * (dy * dy + 1.0 / 12);
  });
  r.x += mx, r.y += my;
  r.x_variance = vx / (r.intensity * r.intensity), r.y_variance = vy / (r.intensity * r.intensity);
  return r;
}

}  // namespace detail

// Integrates the predictions of one panel. Pixels of any foreground belong to no background, so the result for one
// reflection depends on where the others are but not on their order.
template <class T>
std::vector<Integrated> integrate_panel(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,
                                        const std::vector<Prediction> &predictions, const IntegrationParameters &q) {
  std::vector<uint8_t> covered(static_cast<std::size_t>(n_slow * n_fast), 0);
  for (const Prediction &p : predictions)
    detail::each_pixel(p, 1.0, n_slow, n_fast, [&](int64_t x, int64_t y, double) {
      uint8_t &count = covered[static_cast<std::size_t>(y * n_fast + x)];
      if (count < 2) ++count;
    });
  std::vector<detail::Sample> samples;
  std::vector<Integrated> results;
  results.reserve(predictions.size());
  for (const Prediction &p : predictions)
    results.push_back(detail::integrate_one(image, mask, covered.data(), n_slow, n_fast, p, q, samples));
  return results;
}

}  // namespace exafel
