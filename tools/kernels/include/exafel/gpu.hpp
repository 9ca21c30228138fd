// The forward model for one pixel at a time: what a thread of a GPU does. The same functions run on the host in a loop,
// so that they are tested where there is no GPU. EXAFEL_GPU_KERNELS makes the kernels of one shape and precision.
#pragma once
#include "exafel/bragg_sinks.hpp"

namespace exafel {
namespace EXAFEL_ISA {

EXAFEL_HD const double *panel_numbers_of(const double *panels, int panel) {
  return panels + static_cast<Int64>(panel) * panel_numbers;
}

// Adds the photons of pixel `i` of panel `number` to its place in the image of that panel.
template <Shape shape, class Real>
EXAFEL_HD_CALL void photons_of_pixel(const Scene<Real> &scene, int number, Int64 i, Real *image) {
  const double *numbers = panel_numbers_of(scene.panels, number);
  const int n_fast = static_cast<int>(numbers[11]);
  const Panel<double> panel = panel_of(numbers, scene.beam, 0.0);
  double photons = 0;
  PhotonSink<shape, Real, Real> sink{scene, &photons, 0};
  each_term(scene, panel, static_cast<double>(i % n_fast) + 0.5, static_cast<double>(i / n_fast) + 0.5, sink);
  image[i] += static_cast<Real>(photon_factor(scene) * photons);
}

// Photons of listed pixel `i` of `n`, and their derivatives by all variables.
template <Shape shape, class Real>
EXAFEL_HD_CALL void gradients_of_pixel(const Scene<Real> &scene, const int *where, Int64 n, Int64 i, Real *photons,
                                       Real *derivatives) {
  using G = Dual<double, 1>;
  using Sink = GradientSink<shape, Real, Real>;
  const Panel<G> panel = panel_of(panel_numbers_of(scene.panels, where[3 * i]), scene.beam, G::variable(0.0, 0));
  typename Sink::Result result(0.0);
  Sink sink{scene, &result, 0};
  each_term(scene, panel, G(where[3 * i + 1] + 0.5), G(where[3 * i + 2] + 0.5), sink);
  const double factor = common_factor(scene);
  photons[i] = static_cast<Real>(factor * result.v);
  for (int k = 0; k < n_variables; ++k) derivatives[k * n + i] = static_cast<Real>(factor * result.d[k]);
}

// Photons of listed pixel `i` for each unit of |F|^2, by reflection; see CoefficientSink.
template <Shape shape, class Real>
EXAFEL_HD_CALL void coefficients_of_pixel(const Scene<Real> &scene, const int *where, int room, Int64 i, int *counts,
                                          int *index, double *value) {
  const Panel<double> panel = panel_of(panel_numbers_of(scene.panels, where[3 * i]), scene.beam, 0.0);
  Coefficients list{0, room, index + i * room, value + i * room};
  CoefficientSink<shape, Real, Real> sink{scene, &list, 0};
  each_term(scene, panel, where[3 * i + 1] + 0.5, where[3 * i + 2] + 0.5, sink);
  counts[i] = list.n;
  const double factor = photon_factor(scene);
  for (int k = 0; k < list.n && k < room; ++k) list.value[k] *= factor;
}

}  // namespace EXAFEL_ISA
}  // namespace exafel

#if defined(__CUDACC__) || defined(__HIPCC__) || defined(EXAFEL_RTC)
// One thread a pixel, 128 a block; for images, one row of blocks a panel. A scene lies in the device's memory, as do
// its arrays. The bounds keep enough threads in flight: of the registers that a thread would like to have, 64 and 128
// were measured to be best on an H200.
#define EXAFEL_GPU_KERNELS(shape, Real)                                                                               \
  extern "C" __global__ void __launch_bounds__(128, 8)                                                                \
      photons(const exafel::Scene<Real> *scene, const exafel::Int64 *first_pixel, Real *image) {                      \
    const int panel = static_cast<int>(blockIdx.y);                                                                   \
    const exafel::Int64 i = static_cast<exafel::Int64>(blockIdx.x) * blockDim.x + threadIdx.x;                        \
    if (i < first_pixel[panel + 1] - first_pixel[panel])                                                              \
      exafel::EXAFEL_ISA::photons_of_pixel<exafel::Shape::shape>(*scene, panel, i, image + first_pixel[panel]);       \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 4) gradients(const exafel::Scene<Real> *scene, const int *where,  \
                                                                 exafel::Int64 n, Real *photons, Real *derivatives) { \
    const exafel::Int64 i = static_cast<exafel::Int64>(blockIdx.x) * blockDim.x + threadIdx.x;                        \
    if (i < n)                                                                                                        \
      exafel::EXAFEL_ISA::gradients_of_pixel<exafel::Shape::shape>(*scene, where, n, i, photons, derivatives);        \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 8)                                                                \
      coefficients(const exafel::Scene<Real> *scene, const int *where, exafel::Int64 n, int room, int *counts,        \
                   int *index, double *value) {                                                                       \
    const exafel::Int64 i = static_cast<exafel::Int64>(blockIdx.x) * blockDim.x + threadIdx.x;                        \
    if (i < n)                                                                                                        \
      exafel::EXAFEL_ISA::coefficients_of_pixel<exafel::Shape::shape>(*scene, where, room, i, counts, index, value);  \
  }
#endif
