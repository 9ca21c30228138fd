// Sums over a window's rows, column by column, that roll down a panel. Included by files that are compiled once for each
// instruction set, so everything here has internal linkage.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace exafel {
namespace EXAFEL_ISA {
namespace {

struct Columns {
  double *count, *sum, *square;  // of the good pixels of the window's rows; padded by kernel_fast zeros at both ends
};

template <class T>
void add_row(const T *__restrict image, const uint8_t *__restrict mask, int64_t n_fast, double sign, const Columns &to,
             int pad) {
  double *__restrict count = to.count + pad;
  double *__restrict sum = to.sum + pad;
  double *__restrict square = to.square + pad;
  for (int64_t i = 0; i < n_fast; ++i) {
    const double good = mask[i] != 0 ? sign : 0.0;
    const double value = mask[i] != 0 ? static_cast<double>(image[i]) : 0.0;
    count[i] += good;
    sum[i] += good * value;
    square[i] += good * value * value;
  }
}

template <class T>
void roll_columns(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast, int64_t row, int half,
                  const Columns &columns, int pad) {
  if (std::is_integral<T>::value && row > 0) {
    const int64_t out = row - half - 1, in = row + half;
    if (out >= 0) add_row(image + out * n_fast, mask + out * n_fast, n_fast, -1.0, columns, pad);
    if (in < n_slow) add_row(image + in * n_fast, mask + in * n_fast, n_fast, 1.0, columns, pad);
    return;
  }
  // Sums of floating-point pixels start afresh in each row: rolling ones would carry rounding down the panel.
  const auto bytes = static_cast<size_t>(n_fast + 2 * pad) * sizeof(double);
  std::memset(columns.count, 0, bytes);
  std::memset(columns.sum, 0, bytes);
  std::memset(columns.square, 0, bytes);
  for (int64_t j = row > half ? row - half : 0; j <= row + half && j < n_slow; ++j)
    add_row(image + j * n_fast, mask + j * n_fast, n_fast, 1.0, columns, pad);
}

}  // namespace
}  // namespace EXAFEL_ISA
}  // namespace exafel
