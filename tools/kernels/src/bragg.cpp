// The forward model on the host: eight neighbouring pixels at once to find which of them meet a reflection, then as
// many channels at once as fit a vector to compute it.
#include "bragg_host.hpp"
#include "exafel/bragg_sinks.hpp"
#include "exafel/lanes.hpp"
#include "for_shape.hpp"

namespace exafel {
namespace EXAFEL_ISA {
namespace {

using Geometry = Lanes<double, pixel_group>;

template <class Real>
using ChannelLanes = Lanes<Real, sizeof(Real) == 8 ? 8 : 16>;

inline const double *numbers_of(const double *panels, int panel) {
  return panels + static_cast<Int64>(panel) * panel_numbers;
}

template <Shape shape, class Real>
Int64 rows_of(const Scene<Real> &scene, const PixelRows &rows, double *image) {
  const double *numbers = numbers_of(scene.panels, rows.panel);
  const int n_fast = static_cast<int>(numbers[11]), n_groups = (n_fast + pixel_group - 1) / pixel_group;
  const Panel<Geometry> panel = panel_of(numbers, scene.beam, Geometry(0.0));
  const double factor = photon_factor(scene);
  double photons[pixel_group];
  PhotonSink<shape, ChannelLanes<Real>, Real> sink{scene, photons, 0};
  for (int slow = rows.slow0; slow < rows.slow1; ++slow)
    for (int group = 0; group < n_groups; ++group) {
      if (rows.marks != nullptr && !rows.marks[static_cast<Int64>(slow) * n_groups + group]) continue;
      const int fast = group * pixel_group;
      for (int i = 0; i < pixel_group; ++i) photons[i] = 0;
      each_term(scene, panel, Geometry(fast + 0.5) + Geometry::ramp(), Geometry(slow + 0.5), sink);
      double *out = image + static_cast<Int64>(slow) * n_fast + fast;
      for (int i = 0; i < pixel_group && fast + i < n_fast; ++i) out[i] += factor * photons[i];
    }
  return sink.n_terms;
}

// Calls work(first, n, panel, fast, slow) for groups of listed pixels of one panel; places past `n` repeat a pixel.
template <class G, class Real, class Work>
void each_group(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end, const G &shift,
                const Work &work) {
  int current = -1;
  Panel<G> panel{};
  for (Int64 first = begin; first < end;) {
    const int number = pixels.where[3 * first];
    if (number != current) panel = panel_of(numbers_of(scene.panels, current = number), scene.beam, shift);
    double fast[pixel_group], slow[pixel_group];
    int n = 0;
    for (int i = 0; i < pixel_group; ++i) {
      if (n == i && first + i < end && pixels.where[3 * (first + i)] == number) ++n;
      const int *where = pixels.where + 3 * (first + (i < n ? i : 0));
      fast[i] = where[1] + 0.5;
      slow[i] = where[2] + 0.5;
    }
    work(first, n, panel, G(Geometry::load(fast)), G(Geometry::load(slow)));
    first += n;
  }
}

template <Shape shape, class Real>
Int64 gradients_of(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end, double *photons,
                   double *derivatives) {
  using G = Dual<Geometry, 1>;
  using Sink = GradientSink<shape, ChannelLanes<Real>, Real>;
  typename Sink::Result results[pixel_group];
  Sink sink{scene, results, 0};
  const double factor = common_factor(scene);
  const G shift = G::variable(Geometry(0.0), 0);
  each_group(scene, pixels, begin, end, shift,
             [&](Int64 first, int n, const Panel<G> &panel, const G &fast, const G &slow) {
               for (auto &result : results) result = typename Sink::Result(0.0);
               each_term(scene, panel, fast, slow, sink);
               for (int i = 0; i < n; ++i) {
                 photons[first + i] = factor * results[i].v;
                 for (int k = 0; k < n_variables; ++k) derivatives[k * pixels.n + first + i] = factor * results[i].d[k];
               }
             });
  return sink.n_terms;
}

template <Shape shape, class Real>
Int64 coefficients_of(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end,
                      const CoefficientLists &lists) {
  Coefficients found[pixel_group];
  int index[pixel_group * 64];
  double value[pixel_group * 64];
  const int room = lists.room < 64 ? lists.room : 64;
  CoefficientSink<shape, ChannelLanes<Real>, Real> sink{scene, found, 0};
  const double factor = photon_factor(scene);
  each_group(scene, pixels, begin, end, Geometry(0.0),
             [&](Int64 first, int n, const Panel<Geometry> &panel, const Geometry &fast, const Geometry &slow) {
               for (int i = 0; i < pixel_group; ++i) found[i] = {0, room, index + 64 * i, value + 64 * i};
               each_term(scene, panel, fast, slow, sink);
               for (int i = 0; i < n; ++i) {
                 lists.n[first + i] = found[i].n;
                 for (int k = 0; k < found[i].n && k < room; ++k) {
                   lists.index[(first + i) * lists.room + k] = found[i].index[k];
                   lists.value[(first + i) * lists.room + k] = factor * found[i].value[k];
                 }
               }
             });
  return sink.n_terms;
}

}  // namespace

#define EXAFEL_DEFINE_BRAGG_OF(Real)                                                                                \
  Int64 bragg_rows(const Scene<Real> &scene, const PixelRows &rows, double *image) {                                \
    return for_shape(scene.shape, [&](auto shape) { return rows_of<decltype(shape)::value>(scene, rows, image); }); \
  }                                                                                                                 \
  Int64 bragg_gradients(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end, double *photons, \
                        double *derivatives) {                                                                      \
    return for_shape(scene.shape, [&](auto shape) {                                                                 \
      return gradients_of<decltype(shape)::value>(scene, pixels, begin, end, photons, derivatives);                 \
    });                                                                                                             \
  }                                                                                                                 \
  Int64 bragg_coefficients(const Scene<Real> &scene, const PixelList &pixels, Int64 begin, Int64 end,               \
                           const CoefficientLists &lists) {                                                         \
    return for_shape(scene.shape, [&](auto shape) {                                                                 \
      return coefficients_of<decltype(shape)::value>(scene, pixels, begin, end, lists);                             \
    });                                                                                                             \
  }
EXAFEL_DEFINE_BRAGG_OF(double)
EXAFEL_DEFINE_BRAGG_OF(float)
#undef EXAFEL_DEFINE_BRAGG_OF

void pixel_factors(const Scene<double> &scene, const PixelFactors &result) {
  const double direction[direction_numbers] = {scene.beam[0], scene.beam[1], scene.beam[2], 1.0};
  const Beam<double> beam = beam_along<double>(scene, direction);
  Int64 i = 0;
  for (int number = 0; number < scene.n_panels; ++number) {
    const double *numbers = numbers_of(scene.panels, number);
    const Panel<double> panel = panel_of(numbers, scene.beam, 0.0);
    for (int slow = 0; slow < static_cast<int>(numbers[12]); ++slow)
      for (int fast = 0; fast < static_cast<int>(numbers[11]); ++fast, ++i) {
        const Ray<double> ray = ray_to(panel, fast + 0.5, slow + 0.5, 0.0);
        result.omega_p[i] = solid_angle(panel, ray, 0.0) * polarization_factor(beam, ray.direction);
        if (scene.n_layers > 0) result.omega_p[i] *= absorbed_in_layer(panel, ray, 0, 1);
        result.cos_two_theta[i] = dot(ray.direction, beam.direction);
      }
  }
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
