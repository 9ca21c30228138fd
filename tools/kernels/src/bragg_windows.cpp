#include "bragg_windows.hpp"

#include <algorithm>
#include <cmath>

#include "exafel/bragg.hpp"

namespace exafel {

using namespace EXAFEL_ISA;

namespace {

using Vec = Vec3<double>;
using Mat = Mat3<double>;

// One reflection: where in reciprocal space its maximum is above the cut.
struct Spot {
  Vec q;
  double mosaic;  // radius by which mosaic blocks move it, 1/angstrom
};

struct Box {
  double fast0 = 1e300, fast1 = -1e300, slow0 = 1e300, slow1 = -1e300;
};

// A panel, the map from rays to it, and the cone of directions that it fills as seen from the sample.
struct Target {
  Panel<double> panel;
  Mat to_panel;  // maps a ray to (fast mm, slow mm, 1) times a number
  int n_fast, n_slow;
  Vec middle;
  double cosine, sine;  // of the cone's half angle

  Target(const double *numbers, const double *beam)
      : panel(panel_of(numbers, beam, 0.0)),
        to_panel(inverse(transpose(Mat{{panel.fast, panel.slow, panel.origin}}))),
        n_fast(static_cast<int>(numbers[11])),
        n_slow(static_cast<int>(numbers[12])),
        middle(ray_to(panel, 0.5 * n_fast, 0.5 * n_slow, 0.0).direction),
        cosine(1) {
    for (const double fast : {0.0, 1.0 * n_fast})
      for (const double slow : {0.0, 1.0 * n_slow})
        cosine = std::min(cosine, dot(middle, ray_to(panel, fast, slow, panel.thickness).direction));
    sine = std::sqrt(std::max(0.0, 1 - cosine * cosine));
  }

  // Whether a ray (a unit vector) that may be off by a small angle can meet the panel.
  bool near(const Vec &ray, double angle) const { return dot(middle, ray) >= cosine - (sine + angle) * angle; }
};

template <class Real>
class Marker {
 public:
  Marker(const Scene<Real> &scene, WindowMarks &marks) : scene_(scene), marks_(marks) {
    const Mat mean = mat3<double>(scene.mean_block);
    columns_ = inverse(mean);
    spread_ = transpose(columns_);
    double corner = 1;
    for (int i = 0; i < 3; ++i) {
      const double half = std::sqrt(scene.limit) / scene.n_cells[i];
      if (half > 0.5) corner = std::sqrt(3.0);  // the nearest index ends it: a box, which an ellipsoid has to hold
      spread_.rows[i] = std::min(half, 0.5) * spread_.rows[i];
    }
    for (auto &row : spread_.rows) {
      row = corner * row;
      widest_ += dot(row, row);
    }
    widest_ = std::sqrt(widest_);
    for (int m = 0; m < scene.n_blocks; ++m) {
      const Mat moved = inverse(mat3<double>(scene.blocks + 9 * static_cast<Int64>(m))) * mean;
      double square = 0;
      for (int i = 0; i < 3; ++i) {
        Vec row = moved.rows[i];
        (i == 0 ? row.x : i == 1 ? row.y : row.z) -= 1;
        square += dot(row, row);
      }
      turn_ = std::max(turn_, std::sqrt(square));
    }
    for (int i = 0; i < scene.n_panels; ++i)
      targets_.emplace_back(scene.panels + static_cast<Int64>(i) * panel_numbers, scene.beam);
  }

  void mark(Int64 h0, Int64 h1) {
    const Table &table = scene_.table;
    const double *values = table.values + h0 * table.n[1] * table.n[2];
    const bool all = scene_.channels.n_tables > 1;
    for (Int64 h = h0; h < h1; ++h)
      for (Int64 k = 0; k < table.n[1]; ++k)
        for (Int64 l = 0; l < table.n[2]; ++l, ++values) {
          if (!all && *values == 0) continue;
          const Vec hkl{static_cast<double>(table.first[0] + h), static_cast<double>(table.first[1] + k),
                        static_cast<double>(table.first[2] + l)};
          const Vec q = columns_ * hkl;
          for (int d = 0; d < scene_.n_directions; ++d)
            reflection(vec3<double>(scene_.directions + d * direction_numbers), {q, turn_ * norm(q)});
        }
  }

 private:
  // Wave numbers between which the Ewald sphere passes within `width` of q, cut to the spectrum; false where none.
  // The distance e from the sphere follows from |x k + q| = x + e, so x = (q^2 - e^2) / (2 (e - k q)).
  bool excited(const Vec &k_in, const Vec &q, double width, double *low, double *high) const {
    *low = scene_.channels.first;
    *high = scene_.channels.last;
    const double kq = dot(k_in, q), outer = dot(q, q) - width * width;
    if (outer <= 0) return true;
    if (width - kq <= 0) return false;
    *low = std::max(*low, outer / (2 * (width - kq)));
    if (-width - kq > 0) *high = std::min(*high, outer / (2 * (-width - kq)));
    return *low <= *high;
  }

  void reflection(const Vec &k_in, const Spot &spot) {
    double low, high;
    if (!excited(k_in, spot.q, widest_ + spot.mosaic, &low, &high)) return;
    const Vec s1 = (low + high) / 2 * k_in + spot.q;
    const double length = norm(s1);
    const double width = std::min(1.1 / length * norm(spread_ * s1), widest_) + spot.mosaic;
    if (!excited(k_in, spot.q, width, &low, &high)) return;
    const Vec ray = (1 / length) * s1;
    const double angle = (widest_ + spot.mosaic) / length + (high - low) / length;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const Target &target = targets_[i];
      if (!target.near(ray, angle)) continue;
      Box box;
      if (!grow(&box, target, k_in, spot, low) || !grow(&box, target, k_in, spot, high)) continue;
      if (box.fast1 <= 0 || box.slow1 <= 0 || box.fast0 >= target.n_fast || box.slow0 >= target.n_slow) continue;
      fill(target, box, marks_.marks.data() + marks_.first[i]);
    }
  }

  // Grows the box by where the reflection falls with wave number x, plus the half width of its maximum there.
  bool grow(Box *box, const Target &target, const Vec &k_in, const Spot &spot, double x) const {
    const Panel<double> &panel = target.panel;
    const Vec s1 = x * k_in + spot.q;
    const Vec p = target.to_panel * s1;
    if (p.z <= 1e-6 * norm(s1)) return false;
    const double fast = p.x / p.z, slow = p.y / p.z;
    const Mat &map = target.to_panel;
    const Vec d_fast = (1 / p.z) * (map.rows[0] - fast * map.rows[2]),
              d_slow = (1 / p.z) * (map.rows[1] - slow * map.rows[2]);
    // A tenth and a pixel more: the widths are linear in the distance from the centre, the projection is not quite.
    double wide = 1.1 * (norm(spread_ * d_fast) + spot.mosaic * norm(d_fast)) / panel.pixel_fast + 1;
    double high = 1.1 * (norm(spread_ * d_slow) + spot.mosaic * norm(d_slow)) / panel.pixel_slow + 1;
    if (scene_.n_layers > 0) {  // what is absorbed at depth shows nearer to the beam than the surface's pixel
      const double cosine = dot(s1, panel.normal) / norm(s1);
      const double shift = panel.thickness * std::sqrt(std::max(0.0, 1 - cosine * cosine)) / std::max(cosine, 0.05);
      wide += shift / panel.pixel_fast;
      high += shift / panel.pixel_slow;
    }
    box->fast0 = std::min(box->fast0, fast / panel.pixel_fast - wide);
    box->fast1 = std::max(box->fast1, fast / panel.pixel_fast + wide);
    box->slow0 = std::min(box->slow0, slow / panel.pixel_slow - high);
    box->slow1 = std::max(box->slow1, slow / panel.pixel_slow + high);
    return true;
  }

  static void fill(const Target &target, const Box &box, unsigned char *marks) {
    const int n_groups = (target.n_fast + pixel_group - 1) / pixel_group;
    const auto cut = [](double value, int n) {
      return static_cast<int>(std::min(std::max(value, 0.0), static_cast<double>(n)));
    };
    const int group0 = cut(box.fast0, target.n_fast) / pixel_group;
    const int group1 = std::min((cut(box.fast1 + 1, target.n_fast) + pixel_group - 1) / pixel_group, n_groups);
    const int slow1 = cut(box.slow1 + 1, target.n_slow);
    for (int slow = cut(box.slow0, target.n_slow); slow < slow1; ++slow)
      for (int group = group0; group < group1; ++group) marks[static_cast<Int64>(slow) * n_groups + group] = 1;
  }

  const Scene<Real> &scene_;
  WindowMarks &marks_;
  Mat columns_{}, spread_{};  // rows of spread_: a*/Na, b*/Nb, c*/Nc times the radius of the cut
  double widest_ = 0, turn_ = 0;
  std::vector<Target> targets_;
};

}  // namespace

WindowMarks::WindowMarks(const double *panels, int n_panels) {
  Int64 count = 0;
  for (int i = 0; i < n_panels; ++i) {
    const double *numbers = panels + static_cast<Int64>(i) * panel_numbers;
    first.push_back(count);
    count += (static_cast<Int64>(numbers[11]) + pixel_group - 1) / pixel_group * static_cast<Int64>(numbers[12]);
  }
  marks.resize(static_cast<std::size_t>(count));
}

template <class Real>
void mark_windows(const Scene<Real> &scene, Int64 h0, Int64 h1, WindowMarks &marks) {
  Marker<Real>(scene, marks).mark(h0, h1);
}
template void mark_windows(const Scene<double> &scene, Int64 h0, Int64 h1, WindowMarks &marks);
template void mark_windows(const Scene<float> &scene, Int64 h0, Int64 h1, WindowMarks &marks);

}  // namespace exafel
