// The shots of stage 2 as arrays, and what is computed of them on the host.
#pragma once
#include <cstdint>

namespace exafel {

// A shot's reflections are worked on in blocks of so many, one a lane.
constexpr int reflection_block = 16;

// Shots packed one after the other. A shot's reflections are in descending order of the pixels that meet them alone.
// These pixels come first, block by block of reflections: the first pixel of each reflection of the block, the second of
// each that has one, and so on (a sliced, sorted ELLPACK without padding; Kreutzer et al. 2014, SIAM J. Sci. Comput. 36,
// C401). Pixels that meet several reflections follow, as sparse rows.
struct PackedShots {
  std::int64_t n_shots;
  const std::int64_t* reflection_start;  // (n_shots + 1): into the next two
  const std::int32_t* reflection;        // number in the list of all reflections
  const std::int32_t* n_single;          // pixels that meet this reflection alone
  const std::int64_t* pixel_start;       // (n_shots + 1): into data and background
  const float* data;                     // photons, singles first
  const float* background;               // above zero
  const std::int64_t* single_start;      // (n_shots + 1): into single_k
  const float* single_k;
  const std::int64_t* row_start;         // (n_shots + 1): into row_terms, rows of pixels that meet several
  const std::int32_t* row_terms;         // terms of each row
  const std::int64_t* term_start;        // (n_shots + 1): into the next two
  const std::int32_t* term_reflection;   // counted within the shot
  const float* term_k;
};

// Numbers of a shot that an evaluation gives: likelihood, sum of Z^2, and the same with each Z^2 at most `largest_z2`.
constexpr int shot_numbers = 3;
constexpr float largest_z2 = 100;

#define EXAFEL_DECLARE_STAGE2(isa)                                                                                  \
  namespace isa {                                                                                                   \
  void stage2_shots(const PackedShots& shots, std::int64_t begin, std::int64_t end, const double* f_squared,        \
                    double noise, bool refine_scale, double* log_scale, double* numbers, double* gradient,          \
                    double* curvature);                                                                             \
  }
EXAFEL_DECLARE_STAGE2(baseline)
EXAFEL_DECLARE_STAGE2(avx2)
EXAFEL_DECLARE_STAGE2(avx512)
#undef EXAFEL_DECLARE_STAGE2

}  // namespace exafel
