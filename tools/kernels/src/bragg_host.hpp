// The host's entry points into the forward model, one set for each instruction set.
#pragma once
#include "exafel/bragg_scene.hpp"

namespace exafel {

// Pixels along fast that are computed at once, and that a mark of PixelRows stands for.
constexpr int pixel_group = 8;

// Rows [slow0, slow1) of one panel; of these the groups that have a mark, or all where `marks` is null.
struct PixelRows {
  int panel, slow0, slow1;
  const unsigned char *marks;  // (n_slow, groups of a row), of the whole panel
};

// Pixels by (panel, fast, slow), best in the order of panels and rows.
struct PixelList {
  const int *where;  // (n, 3)
  Int64 n;
};

// Lists of coefficients of several pixels, `room` places each; `n` may be larger than that.
struct CoefficientLists {
  int room;
  int *n, *index;
  double *value;
};

// Omega P, times the part that the sensor absorbs, and cos(2 theta) of each pixel's centre.
struct PixelFactors {
  double *omega_p, *cos_two_theta;
};

// All return the number of (pixel, subpixel, layer, direction, block, channel) terms computed. Photons are added to
// `image`, which begins with the panel's first pixel, and to the lists' outputs, of which [begin, end) are made.
// Gradients: derivative k of pixel i is at [k * n + i].
#define EXAFEL_DECLARE_BRAGG_OF(Real)                                                                               \
  Int64 bragg_rows(const Scene<Real> &scene, const PixelRows &rows, double *image);                                 \
  Int64 bragg_gradients(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end, double *photons, \
                        double *derivatives);                                                                       \
  Int64 bragg_coefficients(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end,               \
                           const CoefficientLists &lists);
#define EXAFEL_DECLARE_BRAGG(isa)                                             \
  namespace isa {                                                             \
  EXAFEL_DECLARE_BRAGG_OF(double)                                             \
  EXAFEL_DECLARE_BRAGG_OF(float)                                              \
  void pixel_factors(const Scene<double> &scene, const PixelFactors &result); \
  }
EXAFEL_DECLARE_BRAGG(baseline)
EXAFEL_DECLARE_BRAGG(avx2)
EXAFEL_DECLARE_BRAGG(avx512)
#undef EXAFEL_DECLARE_BRAGG
#undef EXAFEL_DECLARE_BRAGG_OF

}  // namespace exafel
