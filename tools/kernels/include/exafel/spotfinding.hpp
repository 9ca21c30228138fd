// Strong pixels by the index of dispersion (DIALS' "dispersion" and "dispersion_extended" thresholds) and by rings.
//
// Sources of the methods: Winter et al. (2018), Acta Cryst. D74, 85-97, section 2.4 (dispersion threshold); Barty et al.
// (2014), J. Appl. Cryst. 47, 1118-1131 (statistics of the background at one scattering angle).
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
// find_strong_pixels_extended: the same for the extended threshold; `dispersed` and `eroded` are scratch of a panel's size.
// add_to_rings: adds the good pixels at or below their ring's limit, of every `row_step`-th row, to the ring's sums.
// pixels_above_rings: writes the numbers of the good pixels above their ring's limit, and returns how many there are.
// `ring` has the number of each pixel's ring. `sums` has count, sum, sum of squares and nothing, which the processor adds
// at once, in four lanes a ring, so that neighbouring pixels of one ring do not wait for each other.
#define EXAFEL_DECLARE_SPOTFINDING(isa)                                                                              \
  namespace isa {                                                                                                    \
  template <class T>                                                                                                 \
  int64_t find_strong_pixels(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,                    \
                             const DispersionParameters &parameters, double *scratch, uint8_t *candidate,            \
                             int64_t *found);                                                                        \
  template <class T>                                                                                                 \
  int64_t find_strong_pixels_extended(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,           \
                                      const DispersionParameters &parameters, double *scratch, uint8_t *dispersed,   \
                                      uint8_t *eroded, int64_t *found);                                              \
  template <class T>                                                                                                 \
  void add_to_rings(const T *image, const uint8_t *mask, const uint16_t *ring, int64_t n_slow, int64_t n_fast,       \
                    int64_t row_step, const float *limit, double *sums);                                             \
  template <class T>                                                                                                 \
  int64_t pixels_above_rings(const T *image, const uint8_t *mask, const uint16_t *ring, int64_t n_pixels,            \
                             const float *limit, uint8_t *candidate, int64_t *found);                                \
  }
EXAFEL_DECLARE_SPOTFINDING(baseline)
EXAFEL_DECLARE_SPOTFINDING(avx2)
EXAFEL_DECLARE_SPOTFINDING(avx512)
#undef EXAFEL_DECLARE_SPOTFINDING

}  // namespace exafel
