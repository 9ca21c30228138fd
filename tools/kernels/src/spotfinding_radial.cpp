// Statistics of the pixels at one scattering angle, compiled once for each instruction set.
#include <cstring>

#include "exafel/spotfinding.hpp"

namespace exafel {
namespace EXAFEL_ISA {

template <class T>
void add_to_rings(const T *__restrict image, const uint8_t *__restrict mask, const uint16_t *__restrict ring,
                  int64_t n_slow, int64_t n_fast, int64_t row_step, const float *__restrict limit,
                  double *__restrict sums) {
  for (int64_t row = 0; row < n_slow; row += row_step)
    for (int64_t i = row * n_fast; i < (row + 1) * n_fast; ++i) {
      const auto pixel = static_cast<double>(image[i]);
      const bool counts = (mask[i] != 0) & (pixel <= limit[ring[i]]);
      const double value = counts ? pixel : 0.0, one = counts ? 1.0 : 0.0;
      double *to = sums + 4 * (4 * int64_t{ring[i]} + (i & 3));
      const double add[4] = {one, value, value * value, 0.0};
      for (int k = 0; k < 4; ++k) to[k] += add[k];
    }
}

template <class T>
int64_t pixels_above_rings(const T *image, const uint8_t *mask, const uint16_t *ring, int64_t n_pixels,
                           const float *limit, uint8_t *candidate, int64_t *found) {
  constexpr int64_t block = 4096;
  int64_t n = 0;
  for (int64_t start = 0; start < n_pixels; start += block) {
    const int64_t size = n_pixels - start < block ? n_pixels - start : block;
    for (int64_t i = 0; i < size; ++i)
      candidate[i] = (mask[start + i] != 0) & (static_cast<float>(image[start + i]) > limit[ring[start + i]]) ? 1 : 0;
    for (int64_t i = 0; i < size; i += 8) {
      uint64_t eight = 0;
      std::memcpy(&eight, candidate + i, size - i < 8 ? static_cast<size_t>(size - i) : 8);
      if (eight == 0) continue;
      for (int64_t k = i; k < i + 8 && k < size; ++k)
        if (candidate[k] != 0) found[n++] = start + k;
    }
  }
  return n;
}

#define EXAFEL_INSTANTIATE(T)                                                                                         \
  template void add_to_rings<T>(const T *, const uint8_t *, const uint16_t *, int64_t, int64_t, int64_t, const float *, \
                                double *);                                                                            \
  template int64_t pixels_above_rings<T>(const T *, const uint8_t *, const uint16_t *, int64_t, const float *,        \
                                         uint8_t *, int64_t *);
EXAFEL_INSTANTIATE(uint16_t)
EXAFEL_INSTANTIATE(int32_t)
EXAFEL_INSTANTIATE(float)
EXAFEL_INSTANTIATE(double)

}  // namespace EXAFEL_ISA
}  // namespace exafel
