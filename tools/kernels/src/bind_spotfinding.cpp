// Python bindings of the spot finding kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "arrays.hpp"
#include "dispatch.hpp"
#include "exafel/spotfinding.hpp"
#include "exafel/spots.hpp"

namespace nb = nanobind;

namespace {

using exafel::check_shapes;
using exafel::Image;
using exafel::to_numpy;
using Indices = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

using Rings = nb::ndarray<const uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Limits = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using RingSums = nb::ndarray<double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// Calls work(room) with room for every pixel's number, which costs nothing: the operating system gives memory only to
// the part that is written; returns the first work() of them.
template <class Work>
nb::object pixels_found(int64_t n_pixels, Work work) {
  std::vector<int64_t> found;
  {
    nb::gil_scoped_release release;
    const std::unique_ptr<int64_t[]> room(new int64_t[static_cast<size_t>(n_pixels) + 1]);
    const int64_t n = work(room.get());
    found.assign(room.get(), room.get() + n);
  }
  return to_numpy(found, [](int64_t k) { return k; });
}

template <class T>
nb::object strong_pixels(const Image<T> &image, const Image<bool> &mask, int kernel_fast, int kernel_slow,
                         double sigma_background, double sigma_strong, double global_threshold, int min_count,
                         double gain, bool extended) {
  check_shapes(image.shape(0), image.shape(1), mask.shape(0), mask.shape(1));
  if (kernel_fast < 1 || kernel_slow < 1) throw std::invalid_argument("a kernel's half width is at least 1");
  const exafel::DispersionParameters p{kernel_fast,      kernel_slow, sigma_background, sigma_strong,
                                       global_threshold, min_count,   gain};
  const auto n_slow = static_cast<int64_t>(image.shape(0)), n_fast = static_cast<int64_t>(image.shape(1));
  const auto *good = reinterpret_cast<const uint8_t *>(mask.data());
  return pixels_found(n_slow * n_fast, [&](int64_t *room) {
    std::vector<double> scratch(static_cast<size_t>(exafel::strong_pixels_scratch(n_fast, kernel_fast)));
    if (!extended) {
      std::vector<uint8_t> candidate(static_cast<size_t>(n_fast));
      return EXAFEL_DISPATCH(find_strong_pixels, image.data(), good, n_slow, n_fast, p, scratch.data(), candidate.data(),
                             room);
    }
    const auto n_pixels = static_cast<size_t>(n_slow * n_fast);
    const std::unique_ptr<uint8_t[]> dispersed(new uint8_t[n_pixels + 1]), eroded(new uint8_t[n_pixels + 1]);
    return EXAFEL_DISPATCH(find_strong_pixels_extended, image.data(), good, n_slow, n_fast, p, scratch.data(),
                           dispersed.get(), eroded.get(), room);
  });
}

template <class T>
void check_rings(const Image<T> &image, const Image<bool> &mask, const Rings &ring, const Limits &limit) {
  check_shapes(image.shape(0), image.shape(1), mask.shape(0), mask.shape(1));
  check_shapes(image.shape(0), image.shape(1), ring.shape(0), ring.shape(1));
  if (limit.shape(0) <= UINT16_MAX) throw std::invalid_argument("there must be a limit for each of the 65536 rings");
}

template <class T>
void ring_sums(const Image<T> &image, const Image<bool> &mask, const Rings &ring, const Limits &limit,
               const RingSums &sums, int row_step) {
  check_rings(image, mask, ring, limit);
  if (sums.shape(0) <= UINT16_MAX || sums.shape(1) != 4 || sums.shape(2) != 4)
    throw std::invalid_argument("sums must be of shape (65536, 4, 4)");
  if (row_step < 1) throw std::invalid_argument("row_step is at least 1");
  nb::gil_scoped_release release;
  EXAFEL_DISPATCH(add_to_rings, image.data(), reinterpret_cast<const uint8_t *>(mask.data()), ring.data(),
                  static_cast<int64_t>(image.shape(0)), static_cast<int64_t>(image.shape(1)), row_step, limit.data(),
                  sums.data());
}

template <class T>
nb::object pixels_above_rings(const Image<T> &image, const Image<bool> &mask, const Rings &ring, const Limits &limit) {
  check_rings(image, mask, ring, limit);
  const auto n_pixels = static_cast<int64_t>(image.size());
  return pixels_found(n_pixels, [&](int64_t *room) {
    std::vector<uint8_t> candidate(4096);
    return EXAFEL_DISPATCH(pixels_above_rings, image.data(), reinterpret_cast<const uint8_t *>(mask.data()), ring.data(),
                           n_pixels, limit.data(), candidate.data(), room);
  });
}

template <class T>
nb::dict spots_from_pixels(const Image<T> &image, const Image<bool> &mask, const Indices &found, bool corners, int min_pixels,
                           int max_pixels, int margin, double gain, double trusted_maximum) {
  check_shapes(image.shape(0), image.shape(1), mask.shape(0), mask.shape(1));
  const auto n_slow = static_cast<int64_t>(image.shape(0)), n_fast = static_cast<int64_t>(image.shape(1));
  const auto n = static_cast<int64_t>(found.shape(0));
  for (int64_t i = 0; i < n; ++i)
    if (found.data()[i] < (i > 0 ? found.data()[i - 1] + 1 : 0) || found.data()[i] >= n_slow * n_fast)
      throw std::invalid_argument("strong pixels must be in ascending order and inside the image");
  std::vector<exafel::Spot> spots;
  {
    nb::gil_scoped_release release;
    spots = exafel::measure_spots(image.data(), reinterpret_cast<const uint8_t *>(mask.data()), n_slow, n_fast,
                                  found.data(), n, corners, min_pixels, max_pixels, margin, gain, trusted_maximum);
  }
  nb::dict columns;
#define EXAFEL_COLUMN(name) columns[#name] = to_numpy(spots, [](const exafel::Spot &s) { return s.name; })
  EXAFEL_COLUMN(x0);
  EXAFEL_COLUMN(x1);
  EXAFEL_COLUMN(y0);
  EXAFEL_COLUMN(y1);
  EXAFEL_COLUMN(n_pixels);
  EXAFEL_COLUMN(overloaded);
  EXAFEL_COLUMN(peak);
  EXAFEL_COLUMN(peak_x);
  EXAFEL_COLUMN(peak_y);
  EXAFEL_COLUMN(background);
  EXAFEL_COLUMN(intensity);
  EXAFEL_COLUMN(intensity_variance);
  EXAFEL_COLUMN(x);
  EXAFEL_COLUMN(y);
  EXAFEL_COLUMN(x_variance);
  EXAFEL_COLUMN(y_variance);
  EXAFEL_COLUMN(xx);
  EXAFEL_COLUMN(xy);
  EXAFEL_COLUMN(yy);
#undef EXAFEL_COLUMN
  return columns;
}

template <class T>
void bind_pixel_type(nb::module_ &m) {
  m.def("strong_pixels", &strong_pixels<T>, nb::arg("image").noconvert(), nb::arg("mask").noconvert(), nb::kw_only(),
        nb::arg("kernel_fast"), nb::arg("kernel_slow"), nb::arg("sigma_background"), nb::arg("sigma_strong"),
        nb::arg("global_threshold"), nb::arg("min_count"), nb::arg("gain"), nb::arg("extended"),
        "Flat numbers of the strong pixels of a panel by a dispersion threshold, ascending.");
  m.def("ring_sums", &ring_sums<T>, nb::arg("image").noconvert(), nb::arg("mask").noconvert(),
        nb::arg("ring").noconvert(), nb::arg("limit").noconvert(), nb::arg("sums").noconvert(), nb::arg("row_step"),
        "Add the good pixels at or below their ring's limit to its count, sum and sum of squares, in one of four lanes.");
  m.def("pixels_above_rings", &pixels_above_rings<T>, nb::arg("image").noconvert(), nb::arg("mask").noconvert(),
        nb::arg("ring").noconvert(), nb::arg("limit").noconvert(),
        "Flat numbers of the good pixels of a panel above their ring's limit, ascending.");
  m.def("spots_from_pixels", &spots_from_pixels<T>, nb::arg("image").noconvert(), nb::arg("mask").noconvert(),
        nb::arg("found").noconvert(), nb::kw_only(), nb::arg("corners"), nb::arg("min_pixels"), nb::arg("max_pixels"), nb::arg("margin"),
        nb::arg("gain"), nb::arg("trusted_maximum"), "Measure the connected groups of strong pixels.");
}

}  // namespace

void bind_spotfinding(nb::module_ &m) {
  bind_pixel_type<uint16_t>(m);
  bind_pixel_type<int32_t>(m);
  bind_pixel_type<float>(m);
  bind_pixel_type<double>(m);
}
