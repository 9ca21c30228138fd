// Stage 2's sum over pixels: with photons of each pixel for each unit of |F|^2 known, an evaluation of the likelihood
// 1/2 sum [ln(2 pi V) + (D - M)^2 / V], M = B + g sum_h K_h |F_h|^2, V = M + sigma_r^2, and its derivatives by ln F and
// the best scale g of every shot, is a sparse product and its transpose.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "exafel/lanes.hpp"
#include "exafel/stage2_shots.hpp"

namespace exafel {

// Sums over shots must not depend on the order of shots, threads and ranks: what is added is first rounded to a
// multiple of 2^-bits, so that all sums below 2^(53 - bits) are exact (Demmel & Nguyen 2013, IEEE ARITH 21, 163).
inline double on_grid(double x, int bits) {
  const double big = 6755399441055744.0 / static_cast<double>(std::int64_t{1} << bits);  // 1.5 * 2^52
  return (x + big) - big;
}
constexpr int likelihood_bits = 16, gradient_bits = 24, curvature_bits = 10;

namespace EXAFEL_ISA {

struct Stage2Scratch {
  std::vector<float> photons, weight, curved;
  std::vector<double> f_squared, sum;
};

// Pixels are computed in single precision, sixteen at once. Sums of up to 32 are too, and go on in double precision.
constexpr int short_sum = 32;

template <int W>
inline double take(Lanes<float, W>& sum) {
  double total = 0;
  for (int lane = 0; lane < W; ++lane) total += static_cast<double>(sum[lane]);
  sum = Lanes<float, W>(0.0);
  return total;
}

// First and second derivative of the likelihood by ln g, and the latter's expectation.
struct ScaleSlopes {
  double first = 0, second = 0, expected = 0;
};

template <int W>
inline void add_scale_slopes(const float* data, const float* background, const float* photons, std::int64_t begin,
                             std::int64_t end, double g, double noise, ScaleSlopes& total) {
  using L = Lanes<float, W>;
  L first(0.0), second(0.0), expected(0.0);
  const L half(0.5), one(1.0), scale(g), floor(noise);
  int held = 0;
  const auto take_sums = [&] {
    total.first += take(first);
    total.second += take(second);
    total.expected += take(expected);
    held = 0;
  };
  for (std::int64_t i = begin; i + W <= end; i += W) {
    const L bragg = scale * L::load(photons + i), model = bragg + L::load(background + i);
    const L inverse = one / (model + floor), ratio = (L::load(data + i) - model) * inverse;
    const L square = ratio * ratio, slope = half * (inverse - ratio - ratio - square);
    const L bend = inverse * (one - half * inverse + ratio + ratio + square);
    first = first + slope * bragg;
    second = second + (bend * bragg + slope) * bragg;
    expected = expected + inverse * (one + half * inverse) * bragg * bragg;
    if (++held == short_sum) take_sums();
  }
  take_sums();
}

// Newton's steps in ln g; they end with one whose square, the error left, is below the rounding of a pixel.
inline double best_log_scale(const float* data, const float* background, const float* photons, std::int64_t n,
                             double log_g, double noise) {
  const std::int64_t whole = n - n % 16;
  for (int round = 0; round < 40; ++round) {
    ScaleSlopes slopes;
    const double g = std::exp(log_g);
    add_scale_slopes<16>(data, background, photons, 0, whole, g, noise, slopes);
    add_scale_slopes<1>(data, background, photons, whole, n, g, noise, slopes);
    if (!(slopes.expected > 0)) return log_g;  // a shot without photons
    const double bend = slopes.second > 0.2 * slopes.expected ? slopes.second : slopes.expected;
    double step = -slopes.first / bend;
    step = step > 1 ? 1 : step < -1 ? -1 : step;
    log_g += step;
    if (std::fabs(step) < 1e-4) break;
  }
  return log_g;
}

// Likelihood and sum of Z^2; slopes by the model go to `weight`, expected curvature (where asked for) to `curved`.
template <int W>
inline void add_likelihood(const float* data, const float* background, const float* photons, std::int64_t begin,
                           std::int64_t end, double g, double noise, float* weight, float* curved, double* numbers) {
  using L = Lanes<float, W>;
  L chi2(0.0), product(1.0);
  const L half(0.5), one(1.0), scale(g), floor(noise);
  double logs = 0, squares = 0;
  int held = 0;
  const auto take_sums = [&] {
    double factor = 1;  // a product of 4 variances below 1e9 fits single precision, one of 32 double precision
    for (int lane = 0; lane < W; ++lane) {
      factor *= static_cast<double>(product[lane]);
      if (lane % 8 == 7 || lane == W - 1) {
        logs += std::log(factor);
        factor = 1;
      }
    }
    product = one;
    squares += take(chi2);
    held = 0;
  };
  for (std::int64_t i = begin; i + W <= end; i += W) {
    const L model = scale * L::load(photons + i) + L::load(background + i), variance = model + floor;
    const L residual = L::load(data + i) - model, inverse = one / variance, ratio = residual * inverse;
    const L slope = half * (inverse - ratio - ratio - ratio * ratio);
    memcpy(weight + i, &slope.v, sizeof slope.v);
    if (curved != nullptr) {
      const L fisher = inverse * (one + half * inverse);
      memcpy(curved + i, &fisher.v, sizeof fisher.v);
    }
    chi2 = chi2 + residual * ratio;
    product = product * variance;
    if (++held == 4) take_sums();
  }
  take_sums();
  numbers[0] += 0.5 * (logs + squares);
  numbers[1] += squares;
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
