// Binding of the diffraction forward model.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "dispatch.hpp"
#include "exafel/bragg_scene.hpp"

namespace nb = nanobind;

namespace {

template <class... Shape>
using Doubles = nb::ndarray<const double, nb::c_contig, nb::device::cpu, Shape...>;
using Vector = Doubles<nb::shape<3>>;
using Image = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int64_t, nb::shape<3>, nb::c_contig, nb::device::cpu>;

// Channels in ascending order of wave number, with room for the kernels to read past the end.
struct Channels {
  std::vector<double> wave_numbers, weights;

  Channels(const double *x, const double *w, std::size_t n) {
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [x](std::size_t a, std::size_t b) { return x[a] < x[b]; });
    for (const std::size_t i : order) {
      wave_numbers.push_back(x[i]);
      weights.push_back(w[i]);
    }
    wave_numbers.resize(n + exafel::channel_lanes, wave_numbers.back());
    weights.resize(n + exafel::channel_lanes, 0.0);
  }
};

std::int64_t count_pixels(const double *panels, std::size_t n_panels) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < n_panels; ++i) {
    const double *p = panels + i * exafel::panel_numbers;
    count += static_cast<std::int64_t>(p[11]) * static_cast<std::int64_t>(p[12]);
  }
  return count;
}

std::int64_t add_bragg(Image image, Doubles<nb::shape<-1, exafel::panel_numbers>> panels, Vector beam_direction,
                       Vector polarization_axis, double polarization, Doubles<nb::ndim<1>> wave_numbers,
                       Doubles<nb::ndim<1>> weights, Doubles<nb::shape<-1, 3, 3>> blocks, Vector n_cells,
                       Doubles<nb::ndim<3>> f_squared, Indices first_hkl, double scale, int oversample, double cut,
                       bool all_pixels) {
  const std::size_t n = wave_numbers.shape(0);
  if (n == 0 || weights.shape(0) != n) throw std::invalid_argument("as many weights as wave numbers, and one at least");
  if (blocks.shape(0) == 0) throw std::invalid_argument("at least one mosaic block");
  if (oversample < 1) throw std::invalid_argument("oversample must be positive");
  if (!(cut > 0 && cut <= 700)) throw std::invalid_argument("cut must be above 0 and at most 700");
  if (static_cast<std::int64_t>(image.shape(0)) != count_pixels(panels.data(), panels.shape(0)))
    throw std::invalid_argument("the image must have as many pixels as the panels");
  const std::int64_t n_hkl[3] = {static_cast<std::int64_t>(f_squared.shape(0)),
                                 static_cast<std::int64_t>(f_squared.shape(1)),
                                 static_cast<std::int64_t>(f_squared.shape(2))};
  const nb::gil_scoped_release released;
  const Channels channels(wave_numbers.data(), weights.data(), n);
  const exafel::BraggScene scene{static_cast<int>(panels.shape(0)),
                                 panels.data(),
                                 beam_direction.data(),
                                 polarization_axis.data(),
                                 polarization,
                                 static_cast<int>(n),
                                 channels.wave_numbers.data(),
                                 channels.weights.data(),
                                 static_cast<int>(blocks.shape(0)),
                                 blocks.data(),
                                 n_cells.data(),
                                 f_squared.data(),
                                 first_hkl.data(),
                                 n_hkl,
                                 scale,
                                 oversample,
                                 cut};
  return all_pixels ? EXAFEL_DISPATCH(bragg_all_pixels, scene, image.data())
                    : EXAFEL_DISPATCH(bragg_spot_windows, scene, image.data());
}

void pixel_factors(Image omega_p, Image cos_two_theta, Doubles<nb::shape<-1, exafel::panel_numbers>> panels,
                   Vector beam_direction, Vector polarization_axis, double polarization) {
  const auto n_pixels = static_cast<std::size_t>(count_pixels(panels.data(), panels.shape(0)));
  if (omega_p.shape(0) != n_pixels || cos_two_theta.shape(0) != n_pixels)
    throw std::invalid_argument("the results must have as many elements as the panels have pixels");
  exafel::BraggScene scene{};
  scene.n_panels = static_cast<int>(panels.shape(0));
  scene.panels = panels.data();
  scene.beam_direction = beam_direction.data();
  scene.polarization_axis = polarization_axis.data();
  scene.polarization = polarization;
  const exafel::PixelFactors result{omega_p.data(), cos_two_theta.data()};
  const nb::gil_scoped_release released;
  EXAFEL_DISPATCH(pixel_factors, scene, result);
}

}  // namespace

void bind_bragg(nb::module_ &m) {
  m.def("add_bragg", &add_bragg, nb::arg("image").noconvert(), nb::arg("panels"), nb::arg("beam_direction"),
        nb::arg("polarization_axis"), nb::arg("polarization"), nb::arg("wave_numbers"), nb::arg("weights"),
        nb::arg("blocks"), nb::arg("n_cells"), nb::arg("f_squared"), nb::arg("first_hkl"), nb::arg("scale"),
        nb::arg("oversample"), nb::arg("cut"), nb::arg("all_pixels"),
        "Add the photons that a crystal scatters to `image`; returns the number of terms computed.");
  m.def("pixel_factors", &pixel_factors, nb::arg("omega_p").noconvert(), nb::arg("cos_two_theta").noconvert(),
        nb::arg("panels"), nb::arg("beam_direction"), nb::arg("polarization_axis"), nb::arg("polarization"),
        "Fill solid angle times polarization factor, and the cosine of the scattering angle, of each pixel's centre.");
}
