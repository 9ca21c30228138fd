// The dispersion threshold, compiled once for each instruction set.
//
// Column sums over the window's rows roll down the panel; a row's windows are then short sums of neighbouring columns,
// which compilers turn into SIMD. Only pixels that pass the cheap test (strong against the mean) meet the second one.
// No containers of the standard library here: their inline functions would be shared between instruction sets.
#include "exafel/spotfinding.hpp"

#include <cmath>
#include <cstring>

#include "window_columns.hpp"

namespace exafel {
namespace EXAFEL_ISA {
namespace {

// Marks the good pixels that stand out above their window's mean. W is the window's width where it is known in
// advance, else 0 and `width` has it.
template <int W, class T>
void mark_candidates(const T *__restrict image, const uint8_t *__restrict mask, int64_t n_fast, const Columns &columns,
                     int width, const DispersionParameters &p, uint8_t *__restrict candidate) {
  const double *__restrict count = columns.count;
  const double *__restrict sum = columns.sum;
  const double strong = p.sigma_strong * p.sigma_strong * p.gain;
  const double threshold = p.global_threshold;
  const int n = W > 0 ? W : width;
  for (int64_t i = 0; i < n_fast; ++i) {
    double m = 0, x = 0;
    for (int j = 0; j < n; ++j) {
      m += count[i + j];
      x += sum[i + j];
    }
    const auto value = static_cast<double>(image[i]);
    const double above = m * value - x;
    const bool stands_out = (mask[i] != 0) & (value > threshold) & (x >= 0) & (above > 0) & (above * above > strong * x * m);
    candidate[i] = stands_out ? 1 : 0;
  }
}

// Whether the counts of the window that starts at column `i` scatter more than a background's would.
bool not_background(const Columns &columns, int64_t i, int width, const DispersionParameters &p) {
  double m = 0, x = 0, y = 0;
  for (int j = 0; j < width; ++j) {
    m += columns.count[i + j];
    x += columns.sum[i + j];
    y += columns.square[i + j];
  }
  if (m < p.min_count) return false;
  return m * y - x * x > p.gain * x * (m - 1 + p.sigma_background * std::sqrt(2 * (m - 1)));
}

}  // namespace

template <class T>
int64_t find_strong_pixels(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,
                           const DispersionParameters &p, double *scratch, uint8_t *candidate, int64_t *found) {
  const int pad = p.kernel_fast, width = 2 * pad + 1;
  const int64_t padded = n_fast + 2 * pad;
  const Columns columns{scratch, scratch + padded, scratch + 2 * padded};
  int64_t n = 0;
  for (int64_t row = 0; row < n_slow; ++row) {
    roll_columns(image, mask, n_slow, n_fast, row, p.kernel_slow, columns, pad);
    const T *line = image + row * n_fast;
    const uint8_t *good = mask + row * n_fast;
    switch (width) {
      case 3: mark_candidates<3>(line, good, n_fast, columns, width, p, candidate); break;
      case 5: mark_candidates<5>(line, good, n_fast, columns, width, p, candidate); break;
      case 7: mark_candidates<7>(line, good, n_fast, columns, width, p, candidate); break;
      case 9: mark_candidates<9>(line, good, n_fast, columns, width, p, candidate); break;
      default: mark_candidates<0>(line, good, n_fast, columns, width, p, candidate);
    }
    for (int64_t i = 0; i < n_fast; i += 8) {
      uint64_t eight = 0;
      std::memcpy(&eight, candidate + i, n_fast - i < 8 ? static_cast<size_t>(n_fast - i) : 8);
      if (eight == 0) continue;
      for (int64_t k = i; k < i + 8 && k < n_fast; ++k)
        if (candidate[k] != 0 && not_background(columns, k, width, p)) found[n++] = row * n_fast + k;
    }
  }
  return n;
}

#define EXAFEL_INSTANTIATE(T)                                                                                 \
  template int64_t find_strong_pixels<T>(const T *, const uint8_t *, int64_t, int64_t, const DispersionParameters &, \
                                         double *, uint8_t *, int64_t *);
EXAFEL_INSTANTIATE(uint16_t)
EXAFEL_INSTANTIATE(int32_t)
EXAFEL_INSTANTIATE(float)
EXAFEL_INSTANTIATE(double)

}  // namespace EXAFEL_ISA
}  // namespace exafel
