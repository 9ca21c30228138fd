// Compiled once per instruction set; see exafel/indexing.hpp.
#include "exafel/indexing.hpp"

#include <algorithm>

namespace exafel::EXAFEL_ISA {

namespace {

constexpr std::size_t kBlock = 256;  // vectors whose scores stay in the first-level cache

// Nearest integer for |x| < 2^22, by pushing the fraction out of the significand: vectorises on every processor.
inline float nearest(float x) {
  constexpr float shift = 12582912.0f;  // 1.5 * 2^23
  return (x + shift) - shift;
}

void score_block(const float *x, const float *y, const float *z, std::size_t n, const float *qx, const float *qy,
                 const float *qz, std::size_t n_spots, float scale, float *scores) {
  for (std::size_t s = 0; s < n_spots; ++s) {
    const float a = qx[s], b = qy[s], c = qz[s];
    for (std::size_t i = 0; i < n; ++i) {
      const float index = x[i] * a + y[i] * b + z[i] * c;
      const float f = index - nearest(index);
      scores[i] += std::max(0.0f, 1.0f - scale * f * f);
    }
  }
}

}  // namespace

void score_vectors(const float *vectors, std::size_t n_vectors, const float *rlp, std::size_t n_spots, float width,
                   float *scores) {
  const float *y = vectors + n_vectors, *z = vectors + 2 * n_vectors;
  const float scale = 1.0f / (width * width);
  for (std::size_t start = 0; start < n_vectors; start += kBlock) {
    const std::size_t n = std::min(kBlock, n_vectors - start);
    float block[kBlock] = {};
    score_block(vectors + start, y + start, z + start, n, rlp, rlp + n_spots, rlp + 2 * n_spots, n_spots, scale,
                block);
    std::copy(block, block + n, scores + start);
  }
}

}  // namespace exafel::EXAFEL_ISA
