// Spots: the connected groups of a panel's strong pixels, and their measures.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace exafel {

// One connected group of strong pixels. Positions in pixels, the centre of the first at (0.5, 0.5).
struct Spot {
  int32_t x0, x1, y0, y1;  // bounding box, ends not included
  int32_t n_pixels;
  int32_t overloaded;      // pixels of the box above the trusted range
  double peak, peak_x, peak_y;
  double background;       // mean of the good pixels around, that are not strong
  double intensity, intensity_variance;
  double x, y, x_variance, y_variance;
  double xx, xy, yy;       // second moments of the counts about the centroid
};

// Number of the group of each strong pixel, groups numbered by their first pixel; `n_groups` is their count. Pixels that
// touch at a corner alone are connected where `corners` says so.
// Two scans with a union-find over the strong pixels alone: the image itself is never touched.
inline std::vector<int32_t> connect_strong_pixels(const int64_t *found, int64_t n, int64_t n_fast, bool corners,
                                                  int32_t &n_groups) {
  std::vector<int32_t> parent(static_cast<std::size_t>(n));
  const auto root = [&](int32_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  const auto join = [&](int32_t a, int32_t b) {
    a = root(a);
    b = root(b);
    if (a < b) parent[b] = a;
    if (b < a) parent[a] = b;
  };
  int64_t above = 0;
  for (int64_t i = 0; i < n; ++i) {
    parent[i] = static_cast<int32_t>(i);
    const int64_t column = found[i] % n_fast;
    if (i > 0 && column > 0 && found[i - 1] == found[i] - 1) join(static_cast<int32_t>(i), static_cast<int32_t>(i - 1));
    const int64_t first = found[i] - n_fast - (corners && column > 0 ? 1 : 0);
    const int64_t last = found[i] - n_fast + (corners && column + 1 < n_fast ? 1 : 0);
    while (above < i && found[above] < first) ++above;
    for (int64_t j = above; j < i && found[j] <= last; ++j) join(static_cast<int32_t>(i), static_cast<int32_t>(j));
  }
  std::vector<int32_t> group(static_cast<std::size_t>(n));
  n_groups = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t r = root(static_cast<int32_t>(i));
    group[i] = r == i ? n_groups++ : group[r];
  }
  return group;
}

namespace detail {

// Pixels around one group: which belong to it (its strong pixels and the good ones that touch them), which to the
// background (good, and strong in no group).
class Surroundings {
 public:
  Surroundings(const Spot &s, int margin, int64_t n_slow, int64_t n_fast)
      : x0_(s.x0 > margin ? s.x0 - margin : 0), y0_(s.y0 > margin ? s.y0 - margin : 0),
        x1_(s.x1 + margin < n_fast ? s.x1 + margin : n_fast), y1_(s.y1 + margin < n_slow ? s.y1 + margin : n_slow),
        inside_(static_cast<std::size_t>((x1_ - x0_) * (y1_ - y0_)), 0) {}

  void add_with_neighbours(int64_t x, int64_t y) {
    for (int64_t j = y > y0_ ? y - 1 : y; j <= y + 1 && j < y1_; ++j)
      for (int64_t i = x > x0_ ? x - 1 : x; i <= x + 1 && i < x1_; ++i)
        if (uint8_t &cell = inside_[static_cast<std::size_t>((j - y0_) * (x1_ - x0_) + i - x0_)]; cell == 0) cell = 1;
    inside_[static_cast<std::size_t>((y - y0_) * (x1_ - x0_) + x - x0_)] = 2;
  }

  // visit(x, y, k, cell): cell is 2 on the group's strong pixels, 1 on their neighbours, 0 elsewhere.
  template <class Visit>
  void each(int64_t n_fast, Visit visit) const {
    std::size_t cell = 0;
    for (int64_t y = y0_; y < y1_; ++y)
      for (int64_t x = x0_; x < x1_; ++x) visit(x, y, y * n_fast + x, inside_[cell++]);
  }

 private:
  int64_t x0_, y0_, x1_, y1_;
  std::vector<uint8_t> inside_;
};

}  // namespace detail

// Measures one group, whose pixels are `p` (flat numbers, `count` of them).
//
// The threshold leaves only a spot's core; where its edge falls depends on noise. So its neighbours count too, and the
// background is the mean of what lies farther out, up to `margin` pixels. The centroid is that of the counts above background,
// and its variance that of the counts carried through, with 1/12 for the pixel's own width.
template <class T>
Spot measure_spot(const T *image, const uint8_t *mask, const uint8_t *strong, int64_t n_slow, int64_t n_fast,
                  const int64_t *p, int32_t count, int margin, double gain, double trusted_maximum) {
  Spot s{};
  s.x0 = s.y0 = INT32_MAX;
  s.n_pixels = count;
  s.peak = static_cast<double>(image[p[0]]) - 1;
  for (int32_t i = 0; i < count; ++i) {
    const auto x = static_cast<int32_t>(p[i] % n_fast), y = static_cast<int32_t>(p[i] / n_fast);
    if (x < s.x0) s.x0 = x;
    if (x + 1 > s.x1) s.x1 = x + 1;
    if (y < s.y0) s.y0 = y;
    if (y + 1 > s.y1) s.y1 = y + 1;
    const auto value = static_cast<double>(image[p[i]]);
    if (value > s.peak) s.peak = value, s.peak_x = x + 0.5, s.peak_y = y + 0.5;
  }
  detail::Surroundings around(s, margin, n_slow, n_fast);
  for (int32_t i = 0; i < count; ++i) around.add_with_neighbours(p[i] % n_fast, p[i] / n_fast);

  double outside = 0, n_outside = 0, total = 0, n_inside = 0;
  around.each(n_fast, [&](int64_t x, int64_t y, int64_t k, uint8_t cell) {
    const auto value = static_cast<double>(image[k]);
    if (x >= s.x0 && x < s.x1 && y >= s.y0 && y < s.y1 && value > trusted_maximum) ++s.overloaded;
    if (mask[k] == 0 || (strong[k] != 0 && cell != 2)) return;
    (cell == 0 ? outside : total) += value;
    (cell == 0 ? n_outside : n_inside) += 1;
  });
  s.background = n_outside > 0 ? outside / n_outside : 0;
  s.intensity = total - n_inside * s.background;
  const double background_variance = n_outside > 0 ? std::max(s.background, 0.0) / n_outside : 0;
  s.intensity_variance = gain * (std::max(total, 0.0) + n_inside * n_inside * background_variance);

  double wx = 0, wy = 0, vx = 0, vy = 0;
  const auto in_spot = [&](int64_t k, uint8_t cell) { return mask[k] != 0 && (cell == 2 || (cell == 1 && strong[k] == 0)); };
  around.each(n_fast, [&](int64_t x, int64_t y, int64_t k, uint8_t cell) {
    if (!in_spot(k, cell)) return;
    const double w = static_cast<double>(image[k]) - s.background;
    wx += w * (static_cast<double>(x) + 0.5 - s.x0);
    wy += w * (static_cast<double>(y) + 0.5 - s.y0);
  });
  if (s.intensity <= 0) {
    s.x = 0.5 * (s.x0 + s.x1), s.y = 0.5 * (s.y0 + s.y1);
    s.x_variance = s.y_variance = s.xx = s.yy = 1.0 / 12;
    return s;
  }
  s.x = s.x0 + wx / s.intensity, s.y = s.y0 + wy / s.intensity;
  around.each(n_fast, [&](int64_t x, int64_t y, int64_t k, uint8_t cell) {
    if (!in_spot(k, cell)) return;
    const auto value = static_cast<double>(image[k]);
    const double variance = gain * std::max(value, 0.0), w = (value - s.background) / s.intensity;
    const double dx = static_cast<double>(x) + 0.5 - s.x, dy = static_cast<double>(y) + 0.5 - s.y;
    s.xx += w * dx * dx, s.xy += w * dx * dy, s.yy += w * dy * dy;
    vx += variance * (dx * dx + 1.0 / 12), vy += variance * (dy * dy + 1.0 / 12);
  });
  s.x_variance = vx / (s.intensity * s.intensity), s.y_variance = vy / (s.intensity * s.intensity);
  s.xx = std::max(s.xx, 0.0), s.yy = std::max(s.yy, 0.0);
  return s;
}

// Measures the groups of at least `min_pixels` and at most `max_pixels` strong pixels, in the order of their first pixels.
template <class T>
std::vector<Spot> measure_spots(const T *image, const uint8_t *mask, int64_t n_slow, int64_t n_fast,
                                const int64_t *found, int64_t n, bool corners, int min_pixels, int max_pixels, int margin,
                                double gain, double trusted_maximum) {
  int32_t n_groups = 0;
  const std::vector<int32_t> group = connect_strong_pixels(found, n, n_fast, corners, n_groups);
  std::vector<int32_t> first(static_cast<std::size_t>(n_groups) + 1, 0);
  for (const int32_t g : group) ++first[g + 1];
  for (int32_t g = 0; g < n_groups; ++g) first[g + 1] += first[g];
  std::vector<int64_t> pixels(static_cast<std::size_t>(n));
  std::vector<int32_t> next(first.begin(), first.end() - 1);
  for (int64_t i = 0; i < n; ++i) pixels[next[group[i]]++] = found[i];

  std::vector<uint8_t> strong(static_cast<std::size_t>(n_slow * n_fast), 0);
  for (int64_t i = 0; i < n; ++i) strong[found[i]] = 1;
  std::vector<Spot> spots;
  for (int32_t g = 0; g < n_groups; ++g) {
    const int32_t count = first[g + 1] - first[g];
    if (count < min_pixels || count > max_pixels) continue;
    spots.push_back(measure_spot(image, mask, strong.data(), n_slow, n_fast, pixels.data() + first[g], count, margin,
                                 gain, trusted_maximum));
  }
  return spots;
}

}  // namespace exafel
