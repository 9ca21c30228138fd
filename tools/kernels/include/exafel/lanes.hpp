// Vectors of numbers that a processor works on at once, as a number type of their own: templates of the physics are
// instantiated with them as with plain numbers. The host's compilers only.
#pragma once
#include "exafel/portable.hpp"

namespace exafel {
namespace EXAFEL_ISA {

// Single-precision numbers that one instruction takes. Wider vectors work too, but compilers keep them in memory.
#if defined(__AVX512F__)
constexpr int native_floats = 16;
#elif defined(__AVX2__)
constexpr int native_floats = 8;
#else
constexpr int native_floats = 4;
#endif

template <class Real>
struct IntegerLike;
template <>
struct IntegerLike<double> {
  using type = Int64;
  static constexpr int bias = 1023, mantissa = 52;
};
template <>
struct IntegerLike<float> {
  using type = int;
  static constexpr int bias = 127, mantissa = 23;
};

template <class R, int W>
struct Lanes {
  using Real = R;
  static constexpr int width = W;
  typedef Real Vector __attribute__((vector_size(W * sizeof(Real))));
  typedef typename IntegerLike<Real>::type IntVector __attribute__((vector_size(W * sizeof(Real))));
  Vector v;

  Lanes() = default;
  EXAFEL_HD Lanes(double x) : v(Vector{} + static_cast<Real>(x)) {}
  EXAFEL_HD explicit Lanes(Vector x) : v(x) {}
  EXAFEL_HD Real operator[](int lane) const { return v[lane]; }

  static EXAFEL_HD Lanes load(const Real *p) {
    Lanes result;
    memcpy(&result.v, p, sizeof result.v);
    return result;
  }
  // 0, 1, 2, ...
  static EXAFEL_HD Lanes ramp() {
    Lanes result;
    for (int i = 0; i < W; ++i) result.v[i] = static_cast<Real>(i);
    return result;
  }
  // This where `other` is below `bound`, else zero.
  EXAFEL_HD Lanes where_below(const Lanes &other, Real bound) const { return Lanes(other.v < bound ? v : Vector{}); }

  EXAFEL_HD Real sum() const {  // in a fixed order, pairs first
    Real parts[W];
    memcpy(parts, &v, sizeof parts);
    for (int half = W / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
    return parts[0];
  }
};

#define EXAFEL_LANES        \
  template <class R, int W> \
  EXAFEL_HD Lanes<R, W>
EXAFEL_LANES operator+(const Lanes<R, W> &a, const Lanes<R, W> &b) { return Lanes<R, W>(a.v + b.v); }
EXAFEL_LANES operator-(const Lanes<R, W> &a, const Lanes<R, W> &b) { return Lanes<R, W>(a.v - b.v); }
EXAFEL_LANES operator-(const Lanes<R, W> &a) { return Lanes<R, W>(-a.v); }
EXAFEL_LANES operator*(const Lanes<R, W> &a, const Lanes<R, W> &b) { return Lanes<R, W>(a.v * b.v); }
EXAFEL_LANES operator/(const Lanes<R, W> &a, const Lanes<R, W> &b) { return Lanes<R, W>(a.v / b.v); }
EXAFEL_LANES smaller(const Lanes<R, W> &a, const Lanes<R, W> &b) { return Lanes<R, W>(a.v < b.v ? a.v : b.v); }
EXAFEL_LANES larger(const Lanes<R, W> &a, const Lanes<R, W> &b) { return Lanes<R, W>(a.v > b.v ? a.v : b.v); }
EXAFEL_LANES choose(const Lanes<R, W> &x, double bound, const Lanes<R, W> &below, const Lanes<R, W> &otherwise) {
  return Lanes<R, W>(x.v < Lanes<R, W>(bound).v ? below.v : otherwise.v);
}
EXAFEL_LANES magnitude(const Lanes<R, W> &a) { return Lanes<R, W>(a.v < 0 ? -a.v : a.v); }
EXAFEL_LANES nearest(const Lanes<R, W> &a) {
  const Lanes<R, W> magic(ExpConstants<R>::magic);
  return (a + magic) - magic;
}
EXAFEL_LANES power_of_two(const Lanes<R, W> &shifted) {
  using L = Lanes<R, W>;
  const auto bits = (reinterpret_cast<typename L::IntVector>(shifted.v) + IntegerLike<R>::bias)
                    << IntegerLike<R>::mantissa;
  return L(reinterpret_cast<typename L::Vector>(bits));
}
EXAFEL_LANES exp_decay(const Lanes<R, W> &x) { return exp_of<R>(x); }
#undef EXAFEL_LANES

#define EXAFEL_EACH_LANE(function)                              \
  template <class R, int W>                                     \
  EXAFEL_HD Lanes<R, W> function(const Lanes<R, W> &a) {        \
    Lanes<R, W> result;                                         \
    for (int i = 0; i < W; ++i) result.v[i] = function(a.v[i]); \
    return result;                                              \
  }
EXAFEL_EACH_LANE(square_root)
EXAFEL_EACH_LANE(sine)
EXAFEL_EACH_LANE(cosine)
#undef EXAFEL_EACH_LANE

}  // namespace EXAFEL_ISA
}  // namespace exafel
