// Two ways through the forward model of bragg.hpp: every pixel, or the pixels near each reflection. Same image.
#include "exafel/bragg.hpp"

#include "exafel/bragg_scene.hpp"

namespace exafel {
namespace EXAFEL_ISA {
namespace {

using Vec = Vec3<double>;
using Mat = Mat3<double>;

inline Vec vec(const double *p) { return {p[0], p[1], p[2]}; }
inline Mat mat(const double *p) { return {{vec(p), vec(p + 3), vec(p + 6)}}; }
inline Vec times(const Vec &a, const Vec &b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline double smaller(double a, double b) { return a < b ? a : b; }
inline double larger(double a, double b) { return a > b ? a : b; }

inline Panel<double> panel_of(const BraggScene &scene, int number) {
  const double *p = scene.panels + static_cast<std::int64_t>(number) * panel_numbers;
  const double distance = dot(vec(p), cross(vec(p + 3), vec(p + 6)));
  return {vec(p), vec(p + 3), vec(p + 6),         p[9],
          p[10],  std::fabs(distance), static_cast<int>(p[11]), static_cast<int>(p[12])};
}

inline Beam<double> beam_of(const BraggScene &scene) {
  return {vec(scene.beam_direction), vec(scene.polarization_axis), scene.polarization};
}

inline double f_squared(const BraggScene &scene, std::int64_t h, std::int64_t k, std::int64_t l) {
  h -= scene.first_hkl[0];
  k -= scene.first_hkl[1];
  l -= scene.first_hkl[2];
  if (h < 0 || k < 0 || l < 0 || h >= scene.n_hkl[0] || k >= scene.n_hkl[1] || l >= scene.n_hkl[2]) return 0;
  return scene.f_squared[(h * scene.n_hkl[1] + k) * scene.n_hkl[2] + l];
}

// What all terms share: scale (Na Nb Nc)^2 / (n_os^2 n_m).
inline double common_factor(const BraggScene &scene) {
  const double cells = scene.n_cells[0] * scene.n_cells[1] * scene.n_cells[2];
  return scene.scale * cells * cells / (static_cast<double>(scene.oversample) * scene.oversample * scene.n_blocks);
}

// sum_s w_s |F|^2 exp(-2 |N (x_s u - hkl)|^2 / 0.63) over all channels, hkl the nearest of each; u = (a, b, c)(k_out - k_in).
double all_channels(const BraggScene &scene, const Vec &n, const Vec &u, double limit) {
  double sum = 0;
  for (int first = 0; first < scene.n_channels; first += channel_lanes) {
    double h[channel_lanes], k[channel_lanes], l[channel_lanes], argument[channel_lanes];
    double least = limit;
    for (int j = 0; j < channel_lanes; ++j) {
      const double x = scene.wave_numbers[first + j];
      h[j] = std::nearbyint(x * u.x);
      k[j] = std::nearbyint(x * u.y);
      l[j] = std::nearbyint(x * u.z);
      argument[j] = miss_squared(n, u, x, h[j], k[j], l[j]);
    }
    for (int j = 0; j < channel_lanes; ++j) least = smaller(least, argument[j]);
    if (least >= limit) continue;
    for (int j = 0; j < channel_lanes; ++j) {
      if (argument[j] >= limit) continue;
      const double f2 = f_squared(scene, static_cast<std::int64_t>(h[j]), static_cast<std::int64_t>(k[j]),
                                  static_cast<std::int64_t>(l[j]));
      if (f2 > 0) sum += scene.weights[first + j] * f2 * exp_decay(-2 / gauss_width * argument[j]);
    }
  }
  return sum;
}

// First channel whose wave number is not below x.
int lower_channel(const BraggScene &scene, double x) {
  int low = 0, high = scene.n_channels;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (scene.wave_numbers[middle] < x)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

struct Range {
  int first, last;
};

// Channels that one reflection can bring to one pixel. |N (x u - hkl)|^2 is a parabola in x, so those below `limit` are
// an interval, and so are those for which hkl is the nearest.
Range channels_near(const BraggScene &scene, const Vec &hkl, const Vec &u, const Vec &nu, const Vec &nh, double limit) {
  const double v2 = dot(nu, nu);
  if (v2 <= 0) return {0, 0};
  const double best = dot(nu, nh) / v2;
  const Vec miss = best * nu - nh;
  const double room = limit - dot(miss, miss);
  if (room <= 0) return {0, 0};
  const double half = std::sqrt(room / v2);
  double low = best - half, high = best + half;
  const double us[3] = {u.x, u.y, u.z}, hs[3] = {hkl.x, hkl.y, hkl.z};
  for (int i = 0; i < 3; ++i) {
    if (us[i] == 0) {
      if (hs[i] != 0) return {0, 0};
      continue;
    }
    const double one = (hs[i] - 0.5) / us[i], other = (hs[i] + 0.5) / us[i];
    low = larger(low, smaller(one, other));
    high = smaller(high, larger(one, other));
  }
  if (high <= low) return {0, 0};
  return {lower_channel(scene, low), lower_channel(scene, high)};
}

// The same sum over the channels of `range` and for one reflection, whose |F|^2 is left to the caller.
double some_channels(const BraggScene &scene, const Range &range, const Vec &n, const Vec &u, const Vec &hkl) {
  double sums[channel_lanes] = {};
  for (int first = range.first; first < range.last; first += channel_lanes) {
    const double *x = scene.wave_numbers + first, *w = scene.weights + first;
    const int left = range.last - first;
    double exponent[channel_lanes], value[channel_lanes];
    for (int j = 0; j < channel_lanes; ++j) {
      exponent[j] = larger(-2 / gauss_width * miss_squared(n, u, x[j], hkl.x, hkl.y, hkl.z), -700);
    }
    for (int j = 0; j < channel_lanes; ++j) value[j] = w[j] * exp_decay(exponent[j]);
    for (int j = 0; j < channel_lanes; ++j) sums[j] += j < left ? value[j] : 0;
  }
  for (int width = channel_lanes / 2; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) sums[j] += sums[j + width];
  return sums[0];
}

// One reflection of one mosaic block: where in reciprocal space its Gaussian is above the cut.
struct Spot {
  Vec hkl, q, nh;
  Mat spread;  // rows a*/Na, b*/Nb, c*/Nc times the radius of the cut: |spread e| is the half width along unit vector e
  double f2;
};

// Wave numbers between which the Ewald sphere passes within `width` of q, cut to the spectrum; false where none.
// The distance e from the sphere follows from |x k + q| = x + e, so x = (q^2 - e^2) / (2 (e - k q)).
bool excited(const BraggScene &scene, const Vec &k_in, const Spot &spot, double width, double *low, double *high) {
  *low = scene.wave_numbers[0];
  *high = scene.wave_numbers[scene.n_channels - 1];
  const double q2 = dot(spot.q, spot.q), kq = dot(k_in, spot.q);
  const double outer = q2 - width * width;
  if (outer <= 0) return true;
  if (width - kq <= 0) return false;
  *low = larger(*low, outer / (2 * (width - kq)));
  if (-width - kq > 0) *high = smaller(*high, outer / (2 * (-width - kq)));
  return *low <= *high;
}

struct Box {
  double fast0, fast1, slow0, slow1;
};

// Grows the box by where the reflection falls with wave number x, plus the half width of its Gaussian there.
// `to_panel` maps a ray to (fast mm, slow mm, 1) times a number; its derivative gives the widths.
bool grow(Box *box, const Panel<double> &panel, const Mat &to_panel, const Vec &k_in, const Spot &spot, double x) {
  const Vec s1 = x * k_in + spot.q;
  const Vec p = to_panel * s1;
  if (p.z <= 1e-6 * norm(s1)) return false;
  const double fast = p.x / p.z, slow = p.y / p.z;
  const Vec d_fast = (1 / p.z) * (to_panel.rows[0] - fast * to_panel.rows[2]);
  const Vec d_slow = (1 / p.z) * (to_panel.rows[1] - slow * to_panel.rows[2]);
  // A tenth and a pixel more: the widths are linear in the distance from the centre, the projection is not quite.
  const double wide = 1.1 * norm(spot.spread * d_fast) / panel.pixel_fast + 1;
  const double high = 1.1 * norm(spot.spread * d_slow) / panel.pixel_slow + 1;
  *box = {smaller(box->fast0, fast / panel.pixel_fast - wide), larger(box->fast1, fast / panel.pixel_fast + wide),
          smaller(box->slow0, slow / panel.pixel_slow - high), larger(box->slow1, slow / panel.pixel_slow + high)};
  return true;
}

class Windows {
 public:
  Windows(const BraggScene &scene, double *image)
      : scene_(scene), image_(image), beam_(beam_of(scene)), n_(vec(scene.n_cells)),
        limit_(scene.cut * gauss_width / 2), factor_(common_factor(scene)) {}

  std::int64_t run() {
    for (int m = 0; m < scene_.n_blocks; ++m) {
      basis_ = mat(scene_.blocks + 9 * static_cast<std::int64_t>(m));
      block();
    }
    return terms_;
  }

 private:
  void block() {
    const Mat columns = inverse(basis_);
    Spot spot{};
    spot.spread = transpose(columns);
    const double radius = std::sqrt(limit_);
    const double n[3] = {n_.x, n_.y, n_.z};
    for (int i = 0; i < 3; ++i) spot.spread.rows[i] = (radius / n[i]) * spot.spread.rows[i];
    const Mat &spread = spot.spread;
    // An upper bound of the half width in any direction, to throw away most reflections at little cost.
    const double widest = std::sqrt(dot(spread.rows[0], spread.rows[0]) + dot(spread.rows[1], spread.rows[1]) +
                                    dot(spread.rows[2], spread.rows[2]));
    const double *f2 = scene_.f_squared;
    for (std::int64_t i = 0; i < scene_.n_hkl[0]; ++i)
      for (std::int64_t j = 0; j < scene_.n_hkl[1]; ++j)
        for (std::int64_t k = 0; k < scene_.n_hkl[2]; ++k, ++f2) {
          if (*f2 <= 0) continue;
          spot.hkl = {static_cast<double>(scene_.first_hkl[0] + i), static_cast<double>(scene_.first_hkl[1] + j),
                      static_cast<double>(scene_.first_hkl[2] + k)};
          spot.q = columns * spot.hkl;
          double low, high;
          if (!excited(scene_, beam_.direction, spot, widest, &low, &high)) continue;
          const Vec s1 = (low + high) / 2 * beam_.direction + spot.q;
          const double width = 1.1 / norm(s1) * norm(spread * s1);
          if (!excited(scene_, beam_.direction, spot, smaller(width, widest), &low, &high)) continue;
          spot.nh = times(n_, spot.hkl);
          spot.f2 = *f2;
          reflection(spot, low, high);
        }
  }

  void reflection(const Spot &spot, double low, double high) {
    double *image = image_;
    for (int number = 0; number < scene_.n_panels; ++number) {
      const Panel<double> panel = panel_of(scene_, number);
      const Mat to_panel = inverse(transpose(Mat{{panel.fast, panel.slow, panel.origin}}));
      Box box{1e300, -1e300, 1e300, -1e300};
      const bool ahead = grow(&box, panel, to_panel, beam_.direction, spot, low) &&
                         grow(&box, panel, to_panel, beam_.direction, spot, high);
      const bool inside = box.fast1 > 0 && box.slow1 > 0 && box.fast0 < panel.n_fast && box.slow0 < panel.n_slow;
      if (ahead && inside) window(panel, box, spot, image);
      image += static_cast<std::int64_t>(panel.n_fast) * panel.n_slow;
    }
  }

  void window(const Panel<double> &panel, const Box &box, const Spot &spot, double *image) {
    const int fast0 = static_cast<int>(larger(box.fast0, 0)), slow0 = static_cast<int>(larger(box.slow0, 0));
    const int fast1 = static_cast<int>(smaller(box.fast1 + 1, panel.n_fast));
    const int slow1 = static_cast<int>(smaller(box.slow1 + 1, panel.n_slow));
    for (int slow = slow0; slow < slow1; ++slow)
      for (int fast = fast0; fast < fast1; ++fast) {
        double sum = 0;
        for (int sub = 0; sub < scene_.oversample * scene_.oversample; ++sub)
          sum += subpixel(panel, spot, fast + (sub % scene_.oversample + 0.5) / scene_.oversample,
                          slow + (sub / scene_.oversample + 0.5) / scene_.oversample);
        image[static_cast<std::int64_t>(slow) * panel.n_fast + fast] += factor_ * spot.f2 * sum;
      }
  }

  double subpixel(const Panel<double> &panel, const Spot &spot, double fast, double slow) {
    const Ray<double> ray = ray_to(panel, fast, slow);
    const Vec u = basis_ * (ray.direction - beam_.direction);
    const Vec nu = times(n_, u);
    const Range range = channels_near(scene_, spot.hkl, u, nu, spot.nh, limit_);
    if (range.first >= range.last) return 0;
    terms_ += range.last - range.first;
    return omega_p(panel, beam_, ray) * some_channels(scene_, range, n_, u, spot.hkl);
  }

  const BraggScene &scene_;
  double *image_;
  Beam<double> beam_;
  Vec n_;
  double limit_, factor_;
  Mat basis_{};
  std::int64_t terms_ = 0;
};

}  // namespace

std::int64_t bragg_all_pixels(const BraggScene &scene, double *image) {
  const Beam<double> beam = beam_of(scene);
  const Vec n = vec(scene.n_cells);
  const double limit = scene.cut * gauss_width / 2, factor = common_factor(scene);
  const int os = scene.oversample;
  std::int64_t n_pixels = 0;
  for (int number = 0; number < scene.n_panels; ++number) {
    const Panel<double> panel = panel_of(scene, number);
    for (int slow = 0; slow < panel.n_slow; ++slow)
      for (int fast = 0; fast < panel.n_fast; ++fast, ++n_pixels) {
        double sum = 0;
        for (int sub = 0; sub < os * os; ++sub) {
          const Ray<double> ray = ray_to(panel, fast + (sub % os + 0.5) / os, slow + (sub / os + 0.5) / os);
          const double weight = omega_p(panel, beam, ray);
          for (int m = 0; m < scene.n_blocks; ++m) {
            const Vec u = mat(scene.blocks + 9 * static_cast<std::int64_t>(m)) * (ray.direction - beam.direction);
            sum += weight * all_channels(scene, n, u, limit);
          }
        }
        image[n_pixels] += factor * sum;
      }
  }
  return n_pixels * os * os * scene.n_blocks * scene.n_channels;
}

void pixel_factors(const BraggScene &scene, const PixelFactors &result) {
  const Beam<double> beam = beam_of(scene);
  std::int64_t n_pixels = 0;
  for (int number = 0; number < scene.n_panels; ++number) {
    const Panel<double> panel = panel_of(scene, number);
    for (int slow = 0; slow < panel.n_slow; ++slow)
      for (int fast = 0; fast < panel.n_fast; ++fast, ++n_pixels) {
        const Ray<double> ray = ray_to(panel, fast + 0.5, slow + 0.5);
        result.omega_p[n_pixels] = omega_p(panel, beam, ray);
        result.cos_two_theta[n_pixels] = dot(ray.direction, beam.direction);
      }
  }
}

std::int64_t bragg_spot_windows(const BraggScene &scene, double *image) { return Windows(scene, image).run(); }

}  // namespace EXAFEL_ISA
}  // namespace exafel
