// What becomes of the reflections that a pixel meets: photons, their derivatives, or photons for each unit of |F|^2.
#pragma once
#include "exafel/bragg_pixel.hpp"

namespace exafel {
namespace EXAFEL_ISA {

// Adds photons to `photons[lane]`, which the caller multiplies by photon_factor.
template <Shape shape, class C, class Real>
struct PhotonSink {
  const Scene<Real> &scene;
  double *photons;
  Int64 n_terms;

  template <class G>
  EXAFEL_HD void reflection(int lane, int, const G &weight, const Vec3<G> &, const Vec3<double> &u,
                            const Piece &piece) {
    const Int64 index = table_index(scene.table, piece.hkl);
    if (index < 0) return;
    const double *f_squared = scene.table.values + index;
    n_terms += piece.last - piece.first;
    photons[lane] +=
        Pixels<G>::lane(weight, lane) * channel_sum<shape, C, false>(scene.channels, piece, vec3<double>(scene.n_cells),
                                                                     u, f_squared, table_stride(scene));
  }
};

template <class Real>
EXAFEL_HD double photon_factor(const Scene<Real> &scene) {
  const double cells = scene.n_cells[0] * scene.n_cells[1] * scene.n_cells[2];
  return common_factor(scene) * cells * cells;
}

// Adds photons and their derivatives by all n_variables, in the order that bragg_scene.hpp gives, to gradients[lane]:
// the sum's derivatives by u, N and wavelengths are carried on to what u depends on.
template <Shape shape, class C, class Real>
struct GradientSink {
  using Result = Dual<double, n_variables>;
  const Scene<Real> &scene;
  Result *gradients;
  Int64 n_terms;

  template <class G>
  EXAFEL_HD void reflection(int lane, int block, const Dual<G, 1> &weight, const Vec3<Dual<G, 1>> &dk,
                            const Vec3<double> &u, const Piece &piece) {
    const Int64 index = table_index(scene.table, piece.hkl);
    if (index < 0 || !(scene.table.values[index] > 0 || scene.channels.n_tables > 1)) return;
    n_terms += piece.last - piece.first;
    using Inner = Dual<double, n_inner>;
    const Vec3<Inner> n{Inner::variable(scene.n_cells[0], 3), Inner::variable(scene.n_cells[1], 4),
                        Inner::variable(scene.n_cells[2], 5)};
    const Inner cells = n.x * n.y * n.z;
    const Inner sum = cells * cells *
                      channel_sum<shape, C, true>(scene.channels, piece, vec3<double>(scene.n_cells), u,
                                                  scene.table.values + index, table_stride(scene));
    const Dual<double, 1> w = Pixels<Dual<G, 1>>::lane(weight, lane);
    const Vec3<Dual<double, 1>> k = lane_of(dk, lane);
    const double ks[3] = {k.x.v, k.y.v, k.z.v};
    Result &result = gradients[lane];
    result.v += w.v * sum.v;
    const double *jacobian = scene.jacobian + 9 * static_cast<Int64>(block) * n_basis_variables;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const double slope = w.v * sum.d[i] * ks[j];
        for (int p = 0; p < n_basis_variables; ++p)
          result.d[p] += slope * jacobian[(3 * i + j) * n_basis_variables + p];
      }
    for (int i = 0; i < 3; ++i) result.d[n_basis_variables + i] += w.v * sum.d[3 + i];
    const Vec3<double> moved =
        mat3<double>(scene.blocks + 9 * static_cast<Int64>(block)) * Vec3<double>{k.x.d[0], k.y.d[0], k.z.d[0]};
    result.d[n_basis_variables + 3] +=
        w.d[0] * sum.v + w.v * (sum.d[0] * moved.x + sum.d[1] * moved.y + sum.d[2] * moved.z);
    for (int i = 0; i < 2; ++i) result.d[n_basis_variables + 4 + i] += w.v * sum.d[6 + i];
  }
};

// Photons of one pixel for each unit of |F|^2, by reflection: a short list of table positions, in the order they are
// met.
struct Coefficients {
  int n;  // reflections that the pixel has; those past `room` are counted, not kept
  int room;
  int *index;     // (room): position in the table
  double *value;  // (room)
};

template <Shape shape, class C, class Real>
struct CoefficientSink {
  const Scene<Real> &scene;
  Coefficients *lists;
  Int64 n_terms;

  template <class G>
  EXAFEL_HD void reflection(int lane, int, const G &weight, const Vec3<G> &, const Vec3<double> &u,
                            const Piece &piece) {
    const Int64 index = table_index(scene.table, piece.hkl);
    if (index < 0) return;
    n_terms += piece.last - piece.first;
    const double one = 1;
    const double value = Pixels<G>::lane(weight, lane) *
                         channel_sum<shape, C, false>(scene.channels, piece, vec3<double>(scene.n_cells), u, &one, 0);
    Coefficients &list = lists[lane];
    int i = 0;
    while (i < list.n && i < list.room && list.index[i] != index) ++i;
    if (i == list.n && i < list.room) {
      list.index[i] = static_cast<int>(index);
      list.value[i] = 0;
    }
    if (i == list.n) ++list.n;
    if (i < list.room) list.value[i] += value;
  }
};

}  // namespace EXAFEL_ISA
}  // namespace exafel
