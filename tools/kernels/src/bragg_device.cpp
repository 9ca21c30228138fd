#define EXAFEL_ISA device
#include "bragg_device.hpp"

#include "exafel/gpu.hpp"
#include "for_shape.hpp"

namespace exafel {

using namespace EXAFEL_ISA;

template <class Real>
void device_photons(const Scene<Real> &scene, Real *image) {
  for_shape(scene.shape, [&](auto shape) {
    Real *panel_image = image;
    for (int panel = 0; panel < scene.n_panels; ++panel) {
      const double *numbers = panel_numbers_of(scene.panels, panel);
      const Int64 n = static_cast<Int64>(numbers[11]) * static_cast<Int64>(numbers[12]);
      for (Int64 i = 0; i < n; ++i) photons_of_pixel<decltype(shape)::value>(scene, panel, i, panel_image);
      panel_image += n;
    }
    return 0;
  });
}

template <class Real>
void device_gradients(const Scene<Real> &scene, const int *where, Int64 n, Real *photons, Real *derivatives) {
  for_shape(scene.shape, [&](auto shape) {
    for (Int64 i = 0; i < n; ++i) gradients_of_pixel<decltype(shape)::value>(scene, where, n, i, photons, derivatives);
    return 0;
  });
}

template <class Real>
void device_coefficients(const Scene<Real> &scene, const int *where, Int64 n, int room, int *counts, int *index,
                         double *value) {
  for_shape(scene.shape, [&](auto shape) {
    for (Int64 i = 0; i < n; ++i)
      coefficients_of_pixel<decltype(shape)::value>(scene, where, room, i, counts, index, value);
    return 0;
  });
}

#define EXAFEL_INSTANTIATE(Real)                                                           \
  template void device_photons(const Scene<Real> &, Real *);                               \
  template void device_gradients(const Scene<Real> &, const int *, Int64, Real *, Real *); \
  template void device_coefficients(const Scene<Real> &, const int *, Int64, int, int *, int *, double *);
EXAFEL_INSTANTIATE(double)
EXAFEL_INSTANTIATE(float)
#undef EXAFEL_INSTANTIATE

}  // namespace exafel
