// The extended dispersion threshold, compiled once for each instruction set.
//
// The plain threshold compares a pixel with the mean of a window that the spot itself is part of, so it loses the skirts
// of strong spots and whole large ones. Here the index of dispersion only says where signal may be; that region, eroded
// by what the window has smeared it, is left out of the local mean. The region is small, so its means are summed directly.
#include <cmath>
#include <cstring>

#include "exafel/spotfinding.hpp"
#include "window_columns.hpp"

namespace exafel {
namespace EXAFEL_ISA {
namespace {

constexpr int kWiden = 2;  // pixels by which the window of the local mean is wider, as in DIALS

// Marks the pixels whose window scatters more than a background's would; masked ones too, so that a bad pixel beside a
// spot does not erode it. W is the window's width where it is known in advance, else 0 and `width` has it.
template <int W>
void mark_dispersed(const uint8_t *__restrict mask, int64_t n_fast, const Columns &columns, int width,
                    const DispersionParameters &p, uint8_t *__restrict dispersed) {
  const double *__restrict count = columns.count;
  const double *__restrict sum = columns.sum;
  const double *__restrict square = columns.square;
  const double spread = 2 * p.sigma_background * p.sigma_background * p.gain * p.gain;
  const double least = p.min_count, gain = p.gain;
  const int n = W > 0 ? W : width;
  for (int64_t i = 0; i < n_fast; ++i) {
    double m = 0, x = 0, y = 0;
    for (int j = 0; j < n; ++j) {
      m += count[i + j];
      x += sum[i + j];
      y += square[i + j];
    }
    const double above = m * y - x * x - gain * x * (m - 1);
    const bool scatters = (m >= least) & (x >= 0) & (above > 0) & (above * above > spread * x * x * (m - 1));
    dispersed[i] = (mask[i] == 0) | scatters ? 1 : 0;
  }
}

void and_into(uint8_t *__restrict to, const uint8_t *__restrict from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] &= from[i];
}

// eroded: good pixels with no background pixel within `reach` pixels, along rows and columns, inside the panel.
void erode(const uint8_t *mask, uint8_t *dispersed, uint8_t *eroded, int64_t n_slow, int64_t n_fast, int reach) {
  const auto bytes = static_cast<size_t>(n_slow * n_fast);
  std::memcpy(eroded, dispersed, bytes);
  for (int64_t j = 0; j < n_slow; ++j)
    for (int64_t d = 1; d <= reach && d < n_fast; ++d) {
      and_into(eroded + j * n_fast + d, dispersed + j * n_fast, n_fast - d);
      and_into(eroded + j * n_fast, dispersed + j * n_fast + d, n_fast - d);
    }
  std::memcpy(dispersed, eroded, bytes);
  for (int64_t d = 1; d <= reach && d < n_slow; ++d) {
    and_into(eroded + d * n_fast, dispersed, (n_slow - d) * n_fast);
    and_into(eroded, dispersed + d * n_fast, (n_slow - d) * n_fast);
  }
  and_into(eroded, mask, n_slow * n_fast);
}

// Whether a pixel stands out above the background around it.
template <class T>
bool stands_out(const T *image, const uint8_t *mask, const uint8_t *eroded, int64_t n_slow, int64_t n_fast, int64_t row,
                int64_t column, const DispersionParameters &p) {
  const int64_t slow = p.kernel_slow + kWiden, fast = p.kernel_fast + kWiden;
  const int64_t y0 = row > slow ? row - slow : 0, y1 = row + slow < n_slow ? row + slow + 1 : n_slow;
  const int64_t x0 = column > fast ? column - fast : 0, x1 = column + fast < n_fast ? column + fast + 1 : n_fast;
  double m = 0, x = 0;
  for (int64_t y = y0; y < y1; ++y)
    for (int64_t k = y * n_fast + x0; k < y * n_fast + x1; ++k) {
      const bool background = (mask[k] != 0) & (eroded[k] == 0);
      m += background ? 1.0 : 0.0;
      x += background ? static_cast<double>(image[k]) : 0.0;
    }
  if (x < 0) return false;
  const double mean = m >= 2 ? x / m : 0;
  return static_cast<double>(image[row * n_fast + column]) >= mean + p.sigma_strong * std::sqrt(p.gain * mean);
}

}  // namespace

template <class T>
int64_t find_strong_pixels_extended(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,
                                    const DispersionParameters &p, double *scratch, uint8_t *dispersed, uint8_t *eroded,
                                    int64_t *found) {
  const int pad = p.kernel_fast, width = 2 * pad + 1;
  const int64_t padded = n_fast + 2 * pad;
  const Columns columns{scratch, scratch + padded, scratch + 2 * padded};
  for (int64_t row = 0; row < n_slow; ++row) {
    roll_columns(image, mask, n_slow, n_fast, row, p.kernel_slow, columns, pad);
    const uint8_t *good = mask + row * n_fast;
    uint8_t *line = dispersed + row * n_fast;
    switch (width) {
      case 5: mark_dispersed<5>(good, n_fast, columns, width, p, line); break;
      case 7: mark_dispersed<7>(good, n_fast, columns, width, p, line); break;
      case 9: mark_dispersed<9>(good, n_fast, columns, width, p, line); break;
      default: mark_dispersed<0>(good, n_fast, columns, width, p, line);
    }
  }
  erode(mask, dispersed, eroded, n_slow, n_fast, (p.kernel_fast < p.kernel_slow ? p.kernel_fast : p.kernel_slow) - 1);
  int64_t n = 0;
  for (int64_t i = 0; i < n_slow * n_fast; i += 8) {
    uint64_t eight = 0;
    const int64_t left = n_slow * n_fast - i;
    std::memcpy(&eight, eroded + i, left < 8 ? static_cast<size_t>(left) : 8);
    if (eight == 0) continue;
    for (int64_t k = i; k < i + 8 && k < n_slow * n_fast; ++k) {
      if (eroded[k] == 0 || !(static_cast<double>(image[k]) > p.global_threshold)) continue;
      if (stands_out(image, mask, eroded, n_slow, n_fast, k / n_fast, k % n_fast, p)) found[n++] = k;
    }
  }
  return n;
}

#define EXAFEL_INSTANTIATE(T)                                                                                     \
  template int64_t find_strong_pixels_extended<T>(const T *, const uint8_t *, int64_t, int64_t,                   \
                                                  const DispersionParameters &, double *, uint8_t *, uint8_t *, \
                                                  int64_t *);
EXAFEL_INSTANTIATE(uint16_t)
EXAFEL_INSTANTIATE(int32_t)
EXAFEL_INSTANTIATE(float)
EXAFEL_INSTANTIATE(double)

}  // namespace EXAFEL_ISA
}  // namespace exafel
