// What the forward model needs to know, as plain numbers and pointers: shared by the host's variants, their binding and
// the kernels of a GPU, where the pointers are the device's.
#pragma once
#include "exafel/portable.hpp"

namespace exafel {

// Numbers of one panel in Scene::panels: origin (3), fast (3), slow (3), pixel size along fast and slow (mm), number of
// pixels along fast and slow, sensor thickness (mm), its absorption coefficient (1/mm).
constexpr int panel_numbers = 15;
// Numbers of one direction of incidence: unit vector along which the light travels (3), weight.
constexpr int direction_numbers = 4;
// Channel arrays are read in groups of at most this many and are padded with zero weight to a whole group.
constexpr int channel_padding = 16;
// Variables that a crystal's bases may depend on: orientation (3), cell (6), mosaic spread (3).
constexpr int n_basis_variables = 12;
// All variables that derivatives are given for: the bases', then Na, Nb, Nc, the detector's shift along the beam, and
// the offset and scale of wavelengths.
constexpr int n_variables = n_basis_variables + 6;

enum class Shape : int { gauss = 0, square = 1, round = 2, tophat = 3 };

// Energy channels in ascending order of wave number x = 1/wavelength (1/angstrom). `Real` is the precision in which
// terms are computed: where a term lies is found in double, relative to the central wave number; how large it is, in
// Real.
template <class Real>
struct Channels {
  int n;
  double centre, first, last;  // wave numbers
  const double *wave_numbers;  // (n)
  const Real *offsets;         // (padded): x - centre
  const Real *weights;         // (padded)
  const Real *slopes;          // (2, padded): dx/d(offset of wavelengths), dx/d(scale of wavelengths)
  int stride;                  // of slopes and bases
  const int *buckets;          // (n_buckets + 1): the first channel not below each of even steps from `first` to `last`
  int n_buckets;
  // |F(hkl, s)|^2 = sum_k table[k](hkl) bases[k](s). One table, no bases: the same in all channels.
  int n_tables;
  const Real *bases;  // (n_tables, padded)
};

// Squared structure factors of all indices, from `first` on; zero outside.
struct Table {
  const double *values;  // (n_tables, n[0], n[1], n[2])
  Int64 first[3], n[3];
};

template <class Real>
struct Scene {
  int n_panels;
  const double *panels;  // (n_panels, panel_numbers)
  int n_directions;
  const double *directions;  // (n_directions, direction_numbers), weights sum to one
  double beam[3];            // unit vector along which the detector is shifted: the mean direction
  double polarization_axis[3];
  double polarization;  // Kahn factor: 1 for fully polarized, 0 for unpolarized
  Channels<Real> channels;
  int n_blocks;
  const double *blocks;    // (n_blocks, 3, 3): rows a, b, c, angstrom
  const double *jacobian;  // (n_blocks, 3, 3, n_basis_variables): their derivatives; null without gradients
  double mean_block[9];
  double block_slack[3];  // no row of a block is farther than this from the mean block's, angstrom
  double n_cells[3];
  Table table;
  Shape shape;
  double scale;    // fluence times r_e^2 times the crystal's scale
  int oversample;  // subpixels along each side of a pixel
  int n_layers;    // layers of the sensor; none: all is absorbed at its surface
  double limit;    // terms with |N dh|^2 above this are left out
};

}  // namespace exafel
