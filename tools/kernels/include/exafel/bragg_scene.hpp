// What the forward model needs to know, as plain pointers: shared by its compiled variants and by its binding.
#pragma once
#include <cstdint>

namespace exafel {

// Numbers of one panel in BraggScene::panels: origin (3), fast (3), slow (3), pixel size along fast and slow (mm),
// number of pixels along fast and slow.
constexpr int panel_numbers = 13;
// Channel arrays are read in groups of this many and are padded to a whole group.
constexpr int channel_lanes = 8;

struct BraggScene {
  int n_panels;
  const double *panels;  // (n_panels, panel_numbers)
  const double *beam_direction, *polarization_axis;
  double polarization;
  int n_channels;
  const double *wave_numbers, *weights;  // (n_channels, padded), ascending, 1/angstrom
  int n_blocks;
  const double *blocks;  // (n_blocks, 3, 3): rows a, b, c, angstrom
  const double *n_cells;
  const double *f_squared;  // (h, k, l), from first_hkl on; zero outside
  const std::int64_t *first_hkl, *n_hkl;
  double scale;  // fluence times r_e^2 times the crystal's scale
  int oversample;
  double cut;  // terms below exp(-cut) of a reflection's maximum are left out
};

// Omega P and cos(2 theta) of each pixel's centre.
struct PixelFactors {
  double *omega_p, *cos_two_theta;
};

// Photons are added to `image`, panel after panel. Both return the number of (subpixel, channel, block) terms computed.
#define EXAFEL_DECLARE_BRAGG(isa)                                            \
  namespace isa {                                                            \
  std::int64_t bragg_all_pixels(const BraggScene &scene, double *image);     \
  std::int64_t bragg_spot_windows(const BraggScene &scene, double *image);   \
  void pixel_factors(const BraggScene &scene, const PixelFactors &result);   \
  }
EXAFEL_DECLARE_BRAGG(baseline)
EXAFEL_DECLARE_BRAGG(avx2)
EXAFEL_DECLARE_BRAGG(avx512)
#undef EXAFEL_DECLARE_BRAGG

}  // namespace exafel
