// Forward-mode automatic differentiation: a number with its derivatives with respect to N variables. Physics written
// for a number type gives, instantiated with a dual number, its exact derivatives (Griewank & Walther 2008, Evaluating
// Derivatives, chapter 3). T is a number or a vector of numbers.
//
// Derivatives that are known to vanish when the code is compiled cost nothing: the files that use this are built with
// -ffinite-math-only -fno-signed-zeros, so that products with a literal zero are left out.
#pragma once
#include "exafel/portable.hpp"

namespace exafel {
namespace EXAFEL_ISA {

template <class T, int N>
struct Dual {
  T v;
  T d[N];

  Dual() = default;
  EXAFEL_HD Dual(const T &value) : v(value) {
    for (int i = 0; i < N; ++i) d[i] = T(0.0);
  }
  // The `index`-th variable itself; `slope` is its derivative with respect to what the caller differentiates by.
  static EXAFEL_HD Dual variable(const T &value, int index, const T &slope = T(1.0)) {
    Dual result(value);
    result.d[index] = slope;
    return result;
  }
};

// f(a) given its value and its derivative df/da.
template <class T, int N>
EXAFEL_HD Dual<T, N> chain(const T &value, const T &slope, const Dual<T, N> &a) {
  Dual<T, N> r;
  r.v = value;
  for (int i = 0; i < N; ++i) r.d[i] = slope * a.d[i];
  return r;
}

#define EXAFEL_DUAL         \
  template <class T, int N> \
  EXAFEL_HD Dual<T, N>
EXAFEL_DUAL operator+(const Dual<T, N> &a, const Dual<T, N> &b) {
  Dual<T, N> r;
  r.v = a.v + b.v;
  for (int i = 0; i < N; ++i) r.d[i] = a.d[i] + b.d[i];
  return r;
}
EXAFEL_DUAL operator-(const Dual<T, N> &a, const Dual<T, N> &b) {
  Dual<T, N> r;
  r.v = a.v - b.v;
  for (int i = 0; i < N; ++i) r.d[i] = a.d[i] - b.d[i];
  return r;
}
EXAFEL_DUAL operator*(const Dual<T, N> &a, const Dual<T, N> &b) {
  Dual<T, N> r;
  r.v = a.v * b.v;
  for (int i = 0; i < N; ++i) r.d[i] = a.v * b.d[i] + b.v * a.d[i];
  return r;
}
EXAFEL_DUAL operator/(const Dual<T, N> &a, const Dual<T, N> &b) {
  const T inverse = T(1.0) / b.v, quotient = a.v * inverse;
  Dual<T, N> r;
  r.v = quotient;
  for (int i = 0; i < N; ++i) r.d[i] = inverse * (a.d[i] - quotient * b.d[i]);
  return r;
}
EXAFEL_DUAL operator-(const Dual<T, N> &a) { return chain(-a.v, T(-1.0), a); }
EXAFEL_DUAL square_root(const Dual<T, N> &a) {
  const T root = square_root(a.v);
  return chain(root, T(0.5) / root, a);
}
EXAFEL_DUAL sine(const Dual<T, N> &a) { return chain(sine(a.v), cosine(a.v), a); }
EXAFEL_DUAL cosine(const Dual<T, N> &a) { return chain(cosine(a.v), -sine(a.v), a); }
EXAFEL_DUAL choose(const Dual<T, N> &x, double bound, const Dual<T, N> &below, const Dual<T, N> &otherwise) {
  Dual<T, N> r;
  r.v = choose(x.v, bound, below.v, otherwise.v);
  for (int i = 0; i < N; ++i) r.d[i] = choose(x.v, bound, below.d[i], otherwise.d[i]);
  return r;
}
EXAFEL_DUAL exp_decay(const Dual<T, N> &a) {
  const T value = exp_decay(a.v);
  return chain(value, value, a);
}
#undef EXAFEL_DUAL

}  // namespace EXAFEL_ISA
}  // namespace exafel
