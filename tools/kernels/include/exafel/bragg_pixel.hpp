// One pixel of the forward model, or as many as a vector holds: over subpixels, layers of the sensor, directions of
// incidence and mosaic blocks. What is done with each reflection that a pixel meets is the business of a sink.
#pragma once
#include "exafel/bragg_spectrum.hpp"

namespace exafel {
namespace EXAFEL_ISA {

// A number type for several pixels at once, and its parts.
template <class G>
struct Pixels {
  static constexpr int width = G::width;
  using Value = G;
  static EXAFEL_HD const G &value(const G &a) { return a; }
  static EXAFEL_HD double lane(const G &a, int i) { return a[i]; }
};
template <>
struct Pixels<double> {
  static constexpr int width = 1;
  using Value = double;
  static EXAFEL_HD double value(double a) { return a; }
  static EXAFEL_HD double lane(double a, int) { return a; }
};
template <class G, int N>
struct Pixels<Dual<G, N>> {
  static constexpr int width = Pixels<G>::width;
  using Value = G;
  static EXAFEL_HD const G &value(const Dual<G, N> &a) { return a.v; }
  static EXAFEL_HD Dual<double, N> lane(const Dual<G, N> &a, int i) {
    Dual<double, N> r;
    r.v = Pixels<G>::lane(a.v, i);
    for (int k = 0; k < N; ++k) r.d[k] = Pixels<G>::lane(a.d[k], i);
    return r;
  }
};
template <class G>
EXAFEL_HD Vec3<typename Pixels<G>::Value> values(const Vec3<G> &a) {
  return {Pixels<G>::value(a.x), Pixels<G>::value(a.y), Pixels<G>::value(a.z)};
}
template <class G>
EXAFEL_HD auto lane_of(const Vec3<G> &a, int i) -> Vec3<decltype(Pixels<G>::lane(a.x, i))> {
  return {Pixels<G>::lane(a.x, i), Pixels<G>::lane(a.y, i), Pixels<G>::lane(a.z, i)};
}

template <class Real>
EXAFEL_HD Int64 table_stride(const Scene<Real> &scene) {
  return scene.table.n[0] * scene.table.n[1] * scene.table.n[2];
}

// Position of a reflection in the table, or -1.
EXAFEL_HD Int64 table_index(const Table &table, const Vec3<double> &hkl) {
  const Int64 h = static_cast<Int64>(hkl.x) - table.first[0], k = static_cast<Int64>(hkl.y) - table.first[1],
              l = static_cast<Int64>(hkl.z) - table.first[2];
  if (h < 0 || k < 0 || l < 0 || h >= table.n[0] || k >= table.n[1] || l >= table.n[2]) return -1;
  return (h * table.n[1] + k) * table.n[2] + l;
}

// What all terms share but (Na Nb Nc)^2: scale / (n_os^2 n_m).
template <class Real>
EXAFEL_HD double common_factor(const Scene<Real> &scene) {
  return scene.scale / (static_cast<double>(scene.oversample) * scene.oversample * scene.n_blocks);
}

template <class T, class Real>
EXAFEL_HD Beam<T> beam_along(const Scene<Real> &scene, const double *direction) {
  const Vec3<double> along = vec3<double>(direction), field = vec3<double>(scene.polarization_axis);
  const Vec3<double> across = field - dot(field, along) * along;
  const Vec3<double> axis = (1 / norm(across)) * across;
  return {vec3<T>(direction), {T(axis.x), T(axis.y), T(axis.z)}, T(scene.polarization)};
}

// A lower bound of |N dh|^2 over the spectrum, whichever reflections are the nearest. `slack` is how far the
// components of u may be from those given.
template <class G, class Real>
EXAFEL_HD G least_miss(const Scene<Real> &scene, const Vec3<G> &u, const Vec3<G> &slack) {
  const Channels<Real> &channels = scene.channels;
  const G centre(channels.centre), last(channels.last);
  const G half(larger(channels.last - channels.centre, channels.centre - channels.first));
  const G us[3] = {u.x, u.y, u.z}, slacks[3] = {slack.x, slack.y, slack.z};
  G sum(0.0);
  for (int i = 0; i < 3; ++i) {
    const G y = centre * us[i];
    const G gap = larger(magnitude(y - nearest(y)) - half * magnitude(us[i]) - last * slacks[i], G(0.0));
    sum = sum + G(scene.n_cells[i] * scene.n_cells[i]) * gap * gap;
  }
  return sum;
}

// Pixels at (fast, slow) of a panel, centres at (0.5, 0.5). Calls
//   sink.reflection(lane, block, weight, dk, u, piece)
// for each reflection near enough: weight is Omega P A times the direction's, dk = k_out - k_in, both of number type G
// for all pixels, u = (a, b, c) dk of pixel `lane`.
template <class G, class Real, class Sink>
EXAFEL_HD_CALL void each_term(const Scene<Real> &scene, const Panel<G> &panel, const G &fast, const G &slow,
                              Sink &sink) {
  using P = Pixels<G>;
  using V = typename P::Value;
  const Vec3<double> n = vec3<double>(scene.n_cells);
  const Mat3<V> mean = mat3<V>(scene.mean_block);
  const int os = scene.oversample, layers = scene.n_layers > 0 ? scene.n_layers : 1;
  for (int sample = 0; sample < os * os * layers; ++sample) {
    const int sub = sample % (os * os), layer = sample / (os * os);
    const G depth = scene.n_layers > 0 ? G((layer + 0.5) / layers) * panel.thickness : G(0.0);
    const Ray<G> ray =
        ray_to(panel, fast + G((sub % os + 0.5) / os - 0.5), slow + G((sub / os + 0.5) / os - 0.5), depth);
    G factor = solid_angle(panel, ray, depth);
    if (scene.n_layers > 0) factor = factor * absorbed_in_layer(panel, ray, layer, layers);
    for (int number = 0; number < scene.n_directions; ++number) {
      const double *direction = scene.directions + number * direction_numbers;
      const Beam<G> beam = beam_along<G>(scene, direction);
      const Vec3<G> dk = ray.direction - beam.direction;
      const Vec3<V> dk_value = values(dk);
      const V length = norm(dk_value);
      const Vec3<V> slack{V(scene.block_slack[0]) * length, V(scene.block_slack[1]) * length,
                          V(scene.block_slack[2]) * length};
      const V possible = least_miss(scene, mean * dk_value, slack);
      bool any = false;
      for (int lane = 0; lane < P::width; ++lane) any |= Pixels<V>::lane(possible, lane) < scene.limit;
      if (!any) continue;
      const G weight = factor * polarization_factor(beam, ray.direction) * G(direction[3]);
      const Vec3<V> none{V(0.0), V(0.0), V(0.0)};
      for (int block = 0; block < scene.n_blocks; ++block) {
        const Vec3<V> u = mat3<V>(scene.blocks + 9 * static_cast<Int64>(block)) * dk_value;
        const V least = least_miss(scene, u, none);
        for (int lane = 0; lane < P::width; ++lane) {
          if (!(Pixels<V>::lane(least, lane) < scene.limit)) continue;
          const Vec3<double> u_lane = lane_of(u, lane);
          each_reflection(scene.channels, n, u_lane, scene.limit,
                          [&](const Piece &piece) { sink.reflection(lane, block, weight, dk, u_lane, piece); });
        }
      }
    }
  }
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
