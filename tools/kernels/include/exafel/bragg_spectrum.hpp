// Sums over the energy channels of a spectrum, for one pixel and one mosaic block.
#pragma once
#include "exafel/bragg.hpp"
#include "exafel/dual.hpp"

namespace exafel {
namespace EXAFEL_ISA {

// First channel whose wave number is not below x.
template <class Real>
EXAFEL_HD int lower_channel(const Channels<Real> &channels, double x) {
  if (!(x > channels.first)) return 0;
  if (x > channels.last) return channels.n;
  const double step = (x - channels.first) / (channels.last - channels.first) * channels.n_buckets;
  int found = channels.buckets[static_cast<int>(smaller(step, channels.n_buckets - 1.0))];
  while (channels.wave_numbers[found] < x) ++found;
  return found;
}

// Channels [first, last) for which one reflection is the nearest, and near enough.
struct Piece {
  Vec3<double> hkl;
  int first, last;
};

// Calls visit(piece) for each reflection that a pixel meets along the spectrum; u = (a, b, c)(k_out - k_in). In x, h is
// a straight line and |N (x u - hkl)|^2 a parabola, so all are intervals.
template <class Real, class Visit>
EXAFEL_HD void each_reflection(const Channels<Real> &channels, const Vec3<double> &n, const Vec3<double> &u,
                               double limit, Visit &&visit) {
  const Vec3<double> nu = times(n, u);
  const double v2 = dot(nu, nu);
  if (!(v2 > 0)) return;
  for (int begin = 0, end; begin < channels.n; begin = end) {
    const double x = channels.wave_numbers[begin];
    const Vec3<double> hkl{nearest(x * u.x), nearest(x * u.y), nearest(x * u.z)};
    double change = channels.last + 1;
    const double us[3] = {u.x, u.y, u.z}, hs[3] = {hkl.x, hkl.y, hkl.z};
    for (int i = 0; i < 3; ++i) {
      if (us[i] > 0) change = smaller(change, (hs[i] + 0.5) / us[i]);
      if (us[i] < 0) change = smaller(change, (hs[i] - 0.5) / us[i]);
    }
    end = lower_channel(channels, change);
    if (end <= begin) end = begin + 1;
    const Vec3<double> nh = times(n, hkl);
    const double best = dot(nu, nh) / v2;
    const Vec3<double> missed = best * nu - nh;
    const double room = limit - dot(missed, missed);
    if (!(room > 0)) continue;
    const double half = square_root(room / v2);
    const int first = lower_channel(channels, best - half), last = lower_channel(channels, best + half);
    const Piece piece{hkl, first > begin ? first : begin, last < end ? last : end};
    if (piece.first < piece.last) visit(piece);
  }
}

// Groups of channels as one number: `Lanes` have more of this in lanes.hpp's terms, a plain number is a group of one.
template <class C>
struct Group {
  using Real = typename C::Real;
  static constexpr int width = C::width;
  static EXAFEL_HD C load(const Real *p) { return C::load(p); }
  // Weights of channels from `index` on, those from `last` on left out.
  static EXAFEL_HD C until(const C &weights, int index, int last) {
    return index + width <= last ? weights : weights.where_below(C::ramp(), static_cast<Real>(last - index));
  }
  static EXAFEL_HD double sum(const C &a) { return a.sum(); }
};
template <class R>
struct PlainGroup {
  using Real = R;
  static constexpr int width = 1;
  static EXAFEL_HD R load(const R *p) { return *p; }
  static EXAFEL_HD R until(R weight, int, int) { return weight; }
  static EXAFEL_HD double sum(R a) { return a; }
};
template <>
struct Group<double> : PlainGroup<double> {};
template <>
struct Group<float> : PlainGroup<float> {};

// What a sum over channels may be differentiated by: u (3), N (3), offset and scale of the wavelengths. Number<C,
// false> makes plain numbers of the same things.
constexpr int n_inner = 8;
template <class C, bool gradients>
struct Number;
template <class C>
struct Number<C, false> {
  using type = C;
  static EXAFEL_HD C variable(const C &value, int, const C &) { return value; }
  template <class Real>
  static EXAFEL_HD C offset(const Channels<Real> &channels, int index) {
    return Group<C>::load(channels.offsets + index);
  }
  using Sum = double;
  static EXAFEL_HD Sum sum(const type &a) { return Group<C>::sum(a); }
};
template <class C>
struct Number<C, true> {
  using type = Dual<C, n_inner>;
  static EXAFEL_HD type variable(const C &value, int index, const C &slope) {
    return type::variable(value, index, slope);
  }
  template <class Real>
  static EXAFEL_HD type offset(const Channels<Real> &channels, int index) {
    type x(Group<C>::load(channels.offsets + index));
    x.d[6] = Group<C>::load(channels.slopes + index);
    x.d[7] = Group<C>::load(channels.slopes + channels.stride + index);
    return x;
  }
  using Sum = Dual<double, n_inner>;
  static EXAFEL_HD Sum sum(const type &a) {
    Sum r(Group<C>::sum(a.v));
    for (int i = 0; i < n_inner; ++i) r.d[i] = Group<C>::sum(a.d[i]);
    return r;
  }
};

// sum_s w_s |F(s)|^2 (F_latt / Na Nb Nc)^2 over the channels of a piece. `f_squared` points to the reflection in the
// first table; with several, the next are `table_stride` apart. C is what is computed at once.
template <Shape shape, class C, bool gradients, class Real>
EXAFEL_HD typename Number<C, gradients>::Sum channel_sum(const Channels<Real> &channels, const Piece &piece,
                                                         const Vec3<double> &n, const Vec3<double> &u,
                                                         const double *f_squared, Int64 table_stride) {
  using N = Number<C, gradients>;
  using D = typename N::type;
  const Vec3<double> miss = channels.centre * u - piece.hkl;
  const C one(1.0), centre(channels.centre);
  const Vec3<D> us{N::variable(C(u.x), 0, one), N::variable(C(u.y), 1, one), N::variable(C(u.z), 2, one)};
  const Vec3<D> ms{N::variable(C(miss.x), 0, centre), N::variable(C(miss.y), 1, centre),
                   N::variable(C(miss.z), 2, centre)};
  const Vec3<D> ns{N::variable(C(n.x), 3, one), N::variable(C(n.y), 4, one), N::variable(C(n.z), 5, one)};
  D sum(C(0.0));
  for (int s = piece.first; s < piece.last; s += Group<C>::width) {
    C weight = Group<C>::until(Group<C>::load(channels.weights + s), s, piece.last);
    if (channels.n_tables > 1) {
      C f2(0.0);
      for (int k = 0; k < channels.n_tables; ++k)
        f2 = f2 + C(f_squared[k * table_stride]) *
                      Group<C>::load(channels.bases + k * static_cast<Int64>(channels.stride) + s);
      weight = weight * f2;
    }
    sum = sum + D(weight) * lattice_factor<shape>(ns, misses(ns, ms, us, N::offset(channels, s)));
  }
  typename N::Sum total = N::sum(sum);
  if (channels.n_tables == 1) total = typename N::Sum(*f_squared) * total;
  return total;
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
