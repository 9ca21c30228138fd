// Scores of candidate real-space vectors: how well the spots lie on the lattice planes that a vector implies.
#pragma once
#include <cstddef>

namespace exafel {

// For each vector t: sum over spots of max(0, 1 - (f / width)^2), f the distance of t.q from the nearest integer.
// Vectors and spots are given component by component: x of all, y of all, z of all.
#define EXAFEL_DECLARE_SCORE_VECTORS                                                                   \
  void score_vectors(const float *vectors, std::size_t n_vectors, const float *rlp, std::size_t n_spots, \
                     float width, float *scores);
namespace baseline { EXAFEL_DECLARE_SCORE_VECTORS }
namespace avx2 { EXAFEL_DECLARE_SCORE_VECTORS }
namespace avx512 { EXAFEL_DECLARE_SCORE_VECTORS }
#undef EXAFEL_DECLARE_SCORE_VECTORS

}  // namespace exafel
