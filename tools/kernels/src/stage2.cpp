// One shot of stage 2, compiled for each instruction set.
#include "exafel/stage2.hpp"

namespace exafel {
namespace EXAFEL_ISA {
namespace {

// Photons of all pixels of a shot for a scale of one.
void unit_photons(const PackedShots& s, std::int64_t shot, const double* f_squared, Stage2Scratch& scratch) {
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  const std::int64_t n_pixels = s.pixel_start[shot + 1] - s.pixel_start[shot];
  scratch.f_squared.resize(n_reflections);
  scratch.photons.resize(n_pixels);
  const float* k = s.single_k + s.single_start[shot];
  float* out = scratch.photons.data();
  for (std::int64_t r = 0; r < n_reflections; ++r) {
    scratch.f_squared[r] = f_squared[s.reflection[r0 + r]];
    const float square = static_cast<float>(scratch.f_squared[r]);
    const std::int64_t n = s.n_single[r0 + r];
    for (std::int64_t i = 0; i < n; ++i) out[i] = square * k[i];
    out += n;
    k += n;
  }
  const std::int32_t* reflection = s.term_reflection + s.term_start[shot];
  k = s.term_k + s.term_start[shot];
  for (std::int64_t row = s.row_start[shot]; row < s.row_start[shot + 1]; ++row) {
    double sum = 0;
    for (int i = 0; i < s.row_terms[row]; ++i) sum += scratch.f_squared[*reflection++] * *k++;
    *out++ = static_cast<float>(sum);
  }
}

// Sums over pixels of x K^power by reflection of the shot, into scratch.sum.
void transposed(const PackedShots& s, std::int64_t shot, const float* x, bool squared, Stage2Scratch& scratch) {
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  scratch.sum.resize(n_reflections);
  const float* k = s.single_k + s.single_start[shot];
  for (std::int64_t r = 0; r < n_reflections; ++r) {
    const std::int64_t n = s.n_single[r0 + r];
    scratch.sum[r] = squared ? dot_squares(x, k, n) : dot(x, k, n);
    x += n;
    k += n;
  }
  const std::int32_t* reflection = s.term_reflection + s.term_start[shot];
  k = s.term_k + s.term_start[shot];
  for (std::int64_t row = s.row_start[shot]; row < s.row_start[shot + 1]; ++row, ++x)
    for (int i = 0; i < s.row_terms[row]; ++i, ++k) scratch.sum[*reflection++] += *x * (squared ? static_cast<double>(*k) * *k : *k);
}

}  // namespace

void stage2_shot(const PackedShots& s, std::int64_t shot, const double* f_squared, double noise, bool refine_scale,
                 double* log_scale, double* numbers, double* gradient, double* curvature, Stage2Scratch& scratch) {
  unit_photons(s, shot, f_squared, scratch);
  const std::int64_t first = s.pixel_start[shot], n = s.pixel_start[shot + 1] - first;
  const float *data = s.data + first, *background = s.background + first;
  const float* photons = scratch.photons.data();
  if (refine_scale) *log_scale = best_log_scale(data, background, photons, n, *log_scale, noise);
  const double g = std::exp(*log_scale);
  scratch.weight.resize(n);
  scratch.curved.resize(curvature != nullptr ? n : 0);
  float *weight = scratch.weight.data(), *curved = curvature != nullptr ? scratch.curved.data() : nullptr;
  double sums[shot_numbers] = {0, 0};
  const std::int64_t whole = n - n % 16;
  add_likelihood<16>(data, background, photons, 0, whole, g, noise, weight, curved, sums);
  add_likelihood<1>(data, background, photons, whole, n, g, noise, weight, curved, sums);
  numbers[0] = on_grid(sums[0] + 0.5 * 1.8378770664093453 * static_cast<double>(n), likelihood_bits);  // ln(2 pi)
  numbers[1] = on_grid(sums[1], likelihood_bits);
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  if (gradient != nullptr) {
    transposed(s, shot, weight, false, scratch);
    for (std::int64_t r = 0; r < n_reflections; ++r)
      gradient[s.reflection[r0 + r]] += on_grid(2 * g * scratch.f_squared[r] * scratch.sum[r], gradient_bits);
  }
  if (curvature != nullptr) {
    transposed(s, shot, curved, true, scratch);
    for (std::int64_t r = 0; r < n_reflections; ++r) {
      const double slope = 2 * g * scratch.f_squared[r];
      curvature[s.reflection[r0 + r]] += on_grid(slope * slope * scratch.sum[r], curvature_bits);
    }
  }
}

// Shots [begin, end), one after the other.
void stage2_shots(const PackedShots& shots, std::int64_t begin, std::int64_t end, const double* f_squared, double noise,
                  bool refine_scale, double* log_scale, double* numbers, double* gradient, double* curvature) {
  Stage2Scratch scratch;
  for (std::int64_t shot = begin; shot < end; ++shot)
    stage2_shot(shots, shot, f_squared, noise, refine_scale, log_scale + shot, numbers + shot * shot_numbers, gradient,
                curvature, scratch);
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
