// Python bindings of prediction and integration.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "arrays.hpp"
#include "exafel/integration.hpp"
#include "exafel/prediction.hpp"

namespace nb = nanobind;

namespace {

using exafel::Image;
using exafel::to_numpy;
using Matrix = nb::ndarray<const double, nb::shape<3, 3>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const double, nb::shape<3>, nb::c_contig, nb::device::cpu>;
using Shapes = nb::ndarray<const double, nb::shape<-1, 5>, nb::c_contig, nb::device::cpu>;

nb::object reflections_near_sphere(const Matrix &A, const Vector &s0, double d_min, double half_mosaicity_rad,
                                   double domain_size, double half_bandwidth) {
  std::vector<int32_t> hkl;
  {
    nb::gil_scoped_release release;
    hkl = exafel::reflections_near_sphere(A.data(), s0.data(), d_min, half_mosaicity_rad, domain_size, half_bandwidth);
  }
  return to_numpy(hkl, [](int32_t index) { return index; });
}

template <class T>
nb::dict integrate_panel(const Image<T> &image, const Image<bool> &mask, const Shapes &shapes, double gain,
                         double outlier_sigma, int max_rejections, int min_background, double gap, double background,
                         double min_width_px, double profile_sigma) {
  exafel::check_shapes(image.shape(0), image.shape(1), mask.shape(0), mask.shape(1));
  const exafel::IntegrationParameters parameters{gain, outlier_sigma, max_rejections, min_background,
                                                 gap,  background,    min_width_px,   profile_sigma};
  std::vector<exafel::Integrated> results;
  {
    nb::gil_scoped_release release;
    std::vector<exafel::Prediction> predictions;
    for (size_t i = 0; i < shapes.shape(0); ++i) {
      const double *p = shapes.data() + 5 * i;
      predictions.push_back({p[0], p[1], p[2], p[3], p[4]});
    }
    results = exafel::integrate_panel(image.data(), reinterpret_cast<const uint8_t *>(mask.data()),
                                      static_cast<int64_t>(image.shape(0)), static_cast<int64_t>(image.shape(1)),
                                      predictions, parameters);
  }
  nb::dict columns;
#define EXAFEL_COLUMN(name) columns[#name] = to_numpy(results, [](const exafel::Integrated &r) { return r.name; })
  EXAFEL_COLUMN(x0);
  EXAFEL_COLUMN(x1);
  EXAFEL_COLUMN(y0);
  EXAFEL_COLUMN(y1);
  EXAFEL_COLUMN(n_foreground);
  EXAFEL_COLUMN(n_valid);
  EXAFEL_COLUMN(n_overlapped);
  EXAFEL_COLUMN(n_background);
  EXAFEL_COLUMN(n_background_used);
  EXAFEL_COLUMN(intensity);
  EXAFEL_COLUMN(variance);
  EXAFEL_COLUMN(background_mean);
  EXAFEL_COLUMN(background_sum);
  EXAFEL_COLUMN(background_variance);
  EXAFEL_COLUMN(background_mse);
  EXAFEL_COLUMN(profile_intensity);
  EXAFEL_COLUMN(profile_variance);
  EXAFEL_COLUMN(profile_correlation);
  EXAFEL_COLUMN(x);
  EXAFEL_COLUMN(y);
  EXAFEL_COLUMN(x_variance);
  EXAFEL_COLUMN(y_variance);
  EXAFEL_COLUMN(status);
#undef EXAFEL_COLUMN
  return columns;
}

template <class T>
void bind_pixel_type(nb::module_ &m) {
  m.def("integrate_panel", &integrate_panel<T>, nb::arg("image").noconvert(), nb::arg("mask").noconvert(),
        nb::arg("shapes").noconvert(), nb::kw_only(), nb::arg("gain"), nb::arg("outlier_sigma"),
        nb::arg("max_rejections"), nb::arg("min_background"), nb::arg("gap"), nb::arg("background"),
        nb::arg("min_width_px"), nb::arg("profile_sigma"),
        "Integrate the predictions (x, y, mxx, mxy, myy) of one panel by summation, and by profile if profile_sigma > 0.");
}

}  // namespace

void bind_integration(nb::module_ &m) {
  m.def("reflections_near_sphere", &reflections_near_sphere, nb::arg("A").noconvert(), nb::arg("s0").noconvert(),
        nb::kw_only(), nb::arg("d_min"), nb::arg("half_mosaicity_rad"), nb::arg("domain_size"),
        nb::arg("half_bandwidth"), "Indices h, k, l one after the other of the reflections near the Ewald sphere.");
  bind_pixel_type<uint16_t>(m);
  bind_pixel_type<int32_t>(m);
  bind_pixel_type<float>(m);
  bind_pixel_type<double>(m);
}
