// What lets one header serve a C++ compiler, nvcc, hipcc and the run-time compilers NVRTC and hipRTC, which have no
// standard library: attributes, integers, and elementary functions under names of our own.
//
// EXAFEL_ISA names the namespace of a build: the host's instruction sets, or `device`. Nothing below uses a template of
// the standard library: the linker would keep one copy of such a function, made for whatever processor, for all
// callers.
#pragma once

#if defined(__CUDACC_RTC__) || defined(__HIPCC_RTC__)
#define EXAFEL_RTC 1
#else
#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#endif
#include <math.h>
#include <string.h>
#endif

#if defined(__CUDACC__) || defined(__HIPCC__) || defined(EXAFEL_RTC)
#define EXAFEL_HD __host__ __device__ inline
#define EXAFEL_HD_CALL __host__ __device__ inline
#else
#define EXAFEL_HD inline __attribute__((always_inline))
#define EXAFEL_HD_CALL inline  // too large to be worth it everywhere
#endif

#ifndef EXAFEL_ISA
#define EXAFEL_ISA baseline
#endif

namespace exafel {

using Int64 = long long;
static_assert(sizeof(Int64) == 8 && sizeof(int) == 4, "integers as on every 64-bit platform");

namespace EXAFEL_ISA {

constexpr double pi = 3.14159265358979323846;

EXAFEL_HD double square_root(double x) { return ::sqrt(x); }
EXAFEL_HD double magnitude(double x) { return ::fabs(x); }
EXAFEL_HD double sine(double x) { return ::sin(x); }
EXAFEL_HD double cosine(double x) { return ::cos(x); }
EXAFEL_HD double exponential(double x) { return ::exp(x); }
EXAFEL_HD float square_root(float x) { return ::sqrtf(x); }
EXAFEL_HD float magnitude(float x) { return ::fabsf(x); }
EXAFEL_HD float sine(float x) { return ::sinf(x); }
EXAFEL_HD float cosine(float x) { return ::cosf(x); }
template <class T>
EXAFEL_HD T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
EXAFEL_HD T larger(T a, T b) {
  return a > b ? a : b;
}

// `below` where x < bound, else `otherwise`.
template <class T>
EXAFEL_HD T choose(T x, double bound, T below, T otherwise) {
  return x < T(bound) ? below : otherwise;
}

// The nearest integer, halves to even, by operations that every compiler turns into vector code; |x| < 2^51 (2^22).
EXAFEL_HD double nearest(double x) {
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: no fraction survives beside it
  return (x + magic) - magic;
}
EXAFEL_HD float nearest(float x) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23
  return (x + magic) - magic;
}

// 2^n for the integer that `shifted` holds in its low bits after 1.5 * 2^52 (2^23) was added to it.
EXAFEL_HD double power_of_two(double shifted) {
  Int64 bits;
  double power;
  memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<Int64>((static_cast<unsigned long long>(bits) + 1023u) << 52);
  memcpy(&power, &bits, sizeof power);
  return power;
}
EXAFEL_HD float power_of_two(float shifted) {
  unsigned bits;
  float power;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;
  memcpy(&power, &bits, sizeof power);
  return power;
}

// Constants of exp(x) = 2^n exp(r), by the precision of the numbers that it works on.
template <class Real>
struct ExpConstants;
template <>
struct ExpConstants<double> {
  static constexpr double magic = 6755399441055744.0, ln2_high = 6.93147180369123816490e-01,
                          ln2_low = 1.90821492927058770002e-10;
  static constexpr double lowest = -700;
  static constexpr int degree = 12;
};
template <>
struct ExpConstants<float> {
  static constexpr double magic = 12582912.0, ln2_high = 0.693359375, ln2_low = -2.12194440e-4;
  static constexpr double lowest = -87;
  static constexpr int degree = 7;
};

// exp(x) for x <= 0, to one unit in the last place or so, with the same bits on every instruction set; arguments below
// the smallest normal number's are taken as that. T is a number or a vector of numbers of type Real.
template <class Real, class T>
EXAFEL_HD T exp_of(T x) {
  using Constants = ExpConstants<Real>;
  x = larger(x, T(Constants::lowest));
  const T shifted = x * T(1.4426950408889634) + T(Constants::magic);
  const T n = shifted - T(Constants::magic);
  const T r = (x - n * T(Constants::ln2_high)) - n * T(Constants::ln2_low);
  constexpr double inverse_factorial[] = {
      1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,      1.0 / 720,
      1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600};
  T p = T(inverse_factorial[Constants::degree]);
#if defined(__CUDACC__) || defined(__HIPCC__) || defined(EXAFEL_RTC)
#pragma unroll
#elif defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int i = Constants::degree - 1; i >= 0; --i) p = p * r + T(inverse_factorial[i]);
  return p * power_of_two(shifted);
}
EXAFEL_HD double exp_decay(double x) { return exp_of<double>(x); }
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
EXAFEL_HD float exp_decay(float x) { return ::__expf(x); }
#else
EXAFEL_HD float exp_decay(float x) { return exp_of<float>(x); }
#endif

}  // namespace EXAFEL_ISA
}  // namespace exafel
