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

// Pixels are computed in single precision, W = 16 (or, at an end, 1) at once, in as many vectors as the instruction set
// needs for it: sums have the same 16 parts everywhere. Sums of up to 32 are in single precision too, and go on in double.
constexpr int short_sum = 32;

template <int W>
using Part = Lanes<float, W < native_floats ? W : native_floats>;
template <int W>
constexpr int n_parts = W / Part<W>::width;

template <int W>
struct ShortSum {
  Part<W> part[n_parts<W>];

  explicit ShortSum(double x) {
    for (auto& p : part) p = Part<W>(x);
  }
  double lane(int i) const { return static_cast<double>(part[i / Part<W>::width][i % Part<W>::width]); }
  double take() {
    double total = 0;
    for (int i = 0; i < W; ++i) total += lane(i);
    *this = ShortSum(0.0);
    return total;
  }
};

// First and second derivative of the likelihood by ln g, and the latter's expectation.
struct ScaleSlopes {
  double first = 0, second = 0, expected = 0;
};

template <int W>
inline void add_scale_slopes(const float* data, const float* background, const float* photons, std::int64_t begin,
                             std::int64_t end, double g, double noise, ScaleSlopes& total) {
  using L = Part<W>;
  ShortSum<W> first(0.0), second(0.0), expected(0.0);
  const L half(0.5), one(1.0), scale(g), floor(noise);
  int held = 0;
  const auto take_sums = [&] {
    total.first += first.take();
    total.second += second.take();
    total.expected += expected.take();
    held = 0;
  };
  for (std::int64_t i = begin; i + W <= end; i += W) {
    for (int p = 0; p < n_parts<W>; ++p) {
      const std::int64_t at = i + p * L::width;
      const L bragg = scale * L::load(photons + at), model = bragg + L::load(background + at);
      const L inverse = one / (model + floor), ratio = (L::load(data + at) - model) * inverse;
      const L square = ratio * ratio, slope = half * (inverse - ratio - ratio - square);
      const L bend = inverse * (one - half * inverse + ratio + ratio + square);
      first.part[p] = first.part[p] + slope * bragg;
      second.part[p] = second.part[p] + (bend * bragg + slope) * bragg;
      expected.part[p] = expected.part[p] + inverse * (one + half * inverse) * bragg * bragg;
    }
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

// Likelihood and sums of Z^2; slopes by the model go to `weight`, expected curvature (where asked for) to `curved`.
template <int W>
inline void add_likelihood(const float* data, const float* background, const float* photons, std::int64_t begin,
                           std::int64_t end, double g, double noise, float* weight, float* curved, double* numbers) {
  using L = Part<W>;
  ShortSum<W> chi2(0.0), bounded(0.0), product(1.0);
  const L half(0.5), one(1.0), scale(g), floor(noise), largest(largest_z2);
  double logs = 0, squares = 0, bounded_squares = 0;
  int held = 0;
  const auto take_sums = [&] {
    double factor = 1;  // a product of 4 variances below 1e9 fits single precision, one of 32 double precision
    for (int lane = 0; lane < W; ++lane) {
      factor *= product.lane(lane);
      if (lane % 8 == 7 || lane == W - 1) {
        logs += std::log(factor);
        factor = 1;
      }
    }
    product = ShortSum<W>(1.0);
    squares += chi2.take();
    bounded_squares += bounded.take();
    held = 0;
  };
  for (std::int64_t i = begin; i + W <= end; i += W) {
    for (int p = 0; p < n_parts<W>; ++p) {
      const std::int64_t at = i + p * L::width;
      const L model = scale * L::load(photons + at) + L::load(background + at), variance = model + floor;
      const L residual = L::load(data + at) - model, inverse = one / variance, ratio = residual * inverse;
      const L slope = half * (inverse - ratio - ratio - ratio * ratio);
      memcpy(weight + at, &slope.v, sizeof slope.v);
      if (curved != nullptr) {
        const L fisher = inverse * (one + half * inverse);
        memcpy(curved + at, &fisher.v, sizeof fisher.v);
      }
      const L z2 = residual * ratio;
      chi2.part[p] = chi2.part[p] + z2;
      bounded.part[p] = bounded.part[p] + smaller(z2, largest);
      product.part[p] = product.part[p] * variance;
    }
    if (++held == 4) take_sums();
  }
  take_sums();
  numbers[0] += 0.5 * (logs + squares);
  numbers[1] += squares;
  numbers[2] += bounded_squares;
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
