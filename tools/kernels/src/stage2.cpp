// One shot of stage 2, compiled for each instruction set.
#include "exafel/stage2.hpp"

#include <algorithm>

namespace exafel {
namespace EXAFEL_ISA {
namespace {

// A block's lanes are as many vectors as the instruction set needs for them.
using Vector = Part<reflection_block>;
constexpr int vectors = n_parts<reflection_block>;

// Pixels that meet one reflection alone, of the reflections of one block: row j has the j-th pixel of each reflection
// that has so many, so that a row is a product of vectors. f(row's begin in the block, its pixels) is called row by row.
template <class F>
inline std::int64_t for_rows(const std::int32_t* n_single, std::int64_t n_reflections, F f) {
  std::int64_t begin = 0;
  std::int64_t m = n_reflections;
  for (std::int32_t j = 0; j < n_single[0]; ++j) {
    while (n_single[m - 1] <= j) --m;  // the block's reflections are in descending order of their pixels
    f(begin, m);
    begin += m;
  }
  return begin;
}

inline Vector load_until(const float* p, const float* end) {
  if (p + Vector::width <= end) return Vector::load(p);
  Vector result(0.0);
  if (p < end) memcpy(&result.v, p, (end - p) * sizeof(float));
  return result;
}

// A vector's first m lanes, and zero in the others.
inline Vector first_lanes(const Vector& x, std::int64_t m) {
  static constexpr std::int32_t keep[2 * reflection_block] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                              -1, -1, -1, -1, -1, -1, -1, -1};
  Vector::IntVector mask;
  memcpy(&mask, keep + reflection_block - std::clamp<std::int64_t>(m, 0, Vector::width), sizeof mask);
  return Vector(reinterpret_cast<Vector::Vector>(reinterpret_cast<Vector::IntVector>(x.v) & mask));
}

// Photons of all pixels of a shot for a scale of one.
void unit_photons(const PackedShots& s, std::int64_t shot, const double* f_squared, Stage2Scratch& scratch) {
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  const std::int64_t n_pixels = s.pixel_start[shot + 1] - s.pixel_start[shot];
  scratch.f_squared.resize(n_reflections);
  scratch.photons.resize(n_pixels + reflection_block);  // a row's empty lanes are written over by the next
  const float *k = s.single_k + s.single_start[shot], *end = s.single_k + s.single_start[s.n_shots];
  float* out = scratch.photons.data();
  for (std::int64_t r = 0; r < n_reflections; ++r) scratch.f_squared[r] = f_squared[s.reflection[r0 + r]];
  for (std::int64_t r = 0; r < n_reflections; r += reflection_block) {
    const std::int64_t size = std::min<std::int64_t>(reflection_block, n_reflections - r);
    float square[reflection_block] = {};
    for (std::int64_t lane = 0; lane < size; ++lane) square[lane] = static_cast<float>(scratch.f_squared[r + lane]);
    Vector squares[vectors];
    for (int p = 0; p < vectors; ++p) squares[p] = Vector::load(square + p * Vector::width);
    const std::int64_t n = for_rows(s.n_single + r0 + r, size, [&](std::int64_t begin, std::int64_t) {
      for (int p = 0; p < vectors; ++p) {
        const Vector photons = squares[p] * load_until(k + begin + p * Vector::width, end);
        memcpy(out + begin + p * Vector::width, &photons.v, sizeof photons.v);
      }
    });
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

// Sums over pixels of x K by reflection of the shot, into scratch.sum. x may be read a block beyond its end.
void transposed(const PackedShots& s, std::int64_t shot, const float* x, Stage2Scratch& scratch) {
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  scratch.sum.resize(n_reflections);
  const float *k = s.single_k + s.single_start[shot], *end = s.single_k + s.single_start[s.n_shots];
  for (std::int64_t r = 0; r < n_reflections; r += reflection_block) {
    const std::int64_t size = std::min<std::int64_t>(reflection_block, n_reflections - r);
    double* sum = scratch.sum.data() + r;
    std::fill_n(sum, size, 0.0);
    ShortSum<reflection_block> part(0.0);
    int held = 0;
    const auto take_sums = [&] {
      for (std::int64_t lane = 0; lane < size; ++lane) sum[lane] += part.lane(static_cast<int>(lane));
      part = ShortSum<reflection_block>(0.0);
      held = 0;
    };
    const std::int64_t n = for_rows(s.n_single + r0 + r, size, [&](std::int64_t begin, std::int64_t m) {
      for (int p = 0; p < vectors; ++p) {
        const std::int64_t lane = p * Vector::width;
        const Vector product = Vector::load(x + begin + lane) * load_until(k + begin + lane, end);
        part.part[p] = part.part[p] + first_lanes(product, m - lane);
      }
      if (++held == short_sum) take_sums();
    });
    take_sums();
    x += n;
    k += n;
  }
  const std::int32_t* reflection = s.term_reflection + s.term_start[shot];
  k = s.term_k + s.term_start[shot];
  for (std::int64_t row = s.row_start[shot]; row < s.row_start[shot + 1]; ++row, ++x)
    for (int i = 0; i < s.row_terms[row]; ++i) scratch.sum[*reflection++] += *x * *k++;
}

// The same of x K^2, whose squares may be below what single precision holds.
void transposed_squares(const PackedShots& s, std::int64_t shot, const float* x, Stage2Scratch& scratch) {
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  scratch.sum.assign(n_reflections, 0.0);
  const float* k = s.single_k + s.single_start[shot];
  for (std::int64_t r = 0; r < n_reflections; r += reflection_block) {
    const std::int64_t size = std::min<std::int64_t>(reflection_block, n_reflections - r);
    for_rows(s.n_single + r0 + r, size, [&](std::int64_t, std::int64_t m) {
      for (std::int64_t lane = 0; lane < m; ++lane, ++k) scratch.sum[r + lane] += *x++ * (static_cast<double>(*k) * *k);
    });
  }
  const std::int32_t* reflection = s.term_reflection + s.term_start[shot];
  k = s.term_k + s.term_start[shot];
  for (std::int64_t row = s.row_start[shot]; row < s.row_start[shot + 1]; ++row, ++x)
    for (int i = 0; i < s.row_terms[row]; ++i, ++k) scratch.sum[*reflection++] += *x * (static_cast<double>(*k) * *k);
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
  scratch.weight.resize(n + reflection_block);
  scratch.curved.resize(curvature != nullptr ? n : 0);
  float *weight = scratch.weight.data(), *curved = curvature != nullptr ? scratch.curved.data() : nullptr;
  double sums[shot_numbers] = {0, 0, 0};
  const std::int64_t whole = n - n % 16;
  add_likelihood<16>(data, background, photons, 0, whole, g, noise, weight, curved, sums);
  add_likelihood<1>(data, background, photons, whole, n, g, noise, weight, curved, sums);
  numbers[0] = on_grid(sums[0] + 0.5 * 1.8378770664093453 * static_cast<double>(n), likelihood_bits);  // ln(2 pi)
  numbers[1] = on_grid(sums[1], likelihood_bits);
  numbers[2] = on_grid(sums[2], likelihood_bits);
  const std::int64_t r0 = s.reflection_start[shot], n_reflections = s.reflection_start[shot + 1] - r0;
  if (gradient != nullptr) {
    transposed(s, shot, weight, scratch);
    for (std::int64_t r = 0; r < n_reflections; ++r)
      gradient[s.reflection[r0 + r]] += on_grid(2 * g * scratch.f_squared[r] * scratch.sum[r], gradient_bits);
  }
  if (curvature != nullptr) {
    transposed_squares(s, shot, curved, scratch);
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
