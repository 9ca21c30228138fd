// Strong pixels by the index of dispersion (DIALS' "dispersion" threshold).
//
// Source of the method: Winter et al. (2018), Acta Cryst. D74, 85-97, section 2.4 (dispersion threshold).
#pragma once
#include <cstdint>

namespace exafel {

struct DispersionParameters {
  int kernel_fast;          // half width of the window: it has 2k+1 pixels
  int kernel_slow;
  double sigma_background;  // index of dispersion above which a window is no background, in its standard deviations
  double sigma_strong;      // height above the window's mean, in standard deviations of its Poisson noise
  double global_threshold;  // a strong pixel's value is above it
  int min_count;            // good pixels that a window needs
  double gain;              // counts (ADU) a photon
};

// Doubles of scratch that find_strong_pixels needs.
inline int64_t strong_pixels_scratch(int64_t n_fast, int kernel_fast) { return 3 * (n_fast + 2 * int64_t{kernel_fast}); }

// find_strong_pixels: writes the flat numbers of the strong pixels, ascending, to `found` (room for n_slow * n_fast)
// and returns how many there are. `mask` is nonzero where a pixel is good.
#define EXAFEL_DECLARE_SPOTFINDING(isa)                                                                              \
  namespace isa {                                                                                                    \
  template <class T>                                                                                                 \
  int64_t find_strong_pixels(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,                    \
                             const DispersionParameters &parameters, double *scratch, uint8_t *candidate,            \
                             int64_t *found);                                                                        \
  }
EXAFEL_DECLARE_SPOTFINDING(baseline)
EXAFEL_DECLARE_SPOTFINDING(avx2)
EXAFEL_DECLARE_SPOTFINDING(avx512)
#undef EXAFEL_DECLARE_SPOTFINDING

}  // namespace exafel
