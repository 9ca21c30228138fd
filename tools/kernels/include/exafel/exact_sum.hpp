// Exact sums of doubles: the same bits in any order of the terms, over any number of ranks.
//
// A sum is a fixed-point number wide enough for every double, kept as 32-bit digits in 64-bit integers (Kulisch's long
// accumulator). Adding a term touches three digits; carries are left in place until `normalize`.
#pragma once
#include <cstdint>
#include <cstring>

namespace exafel {

class ExactSum {
 public:
  static constexpr int digits = 68;  // 2^-1074 to 2^1023, and room for 2^64 terms
  static constexpr std::int64_t max_terms = std::int64_t{1} << 30;  // between two calls of normalize

  explicit ExactSum(std::int64_t *memory) : digit_(memory) {}

  // Returns false, and adds nothing, for infinity and NaN.
  bool add(double term) {
    std::uint64_t bits;
    std::memcpy(&bits, &term, sizeof bits);
    const int exponent = static_cast<int>((bits >> 52) & 0x7ff);
    if (exponent == 0x7ff) return false;
    const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
    const std::uint64_t mantissa = exponent == 0 ? fraction : fraction | (std::uint64_t{1} << 52);
    const int position = exponent == 0 ? 0 : exponent - 1;  // of the lowest bit, above 2^-1074
    const int shift = position & 31;
    const std::uint64_t low = mantissa << shift;
    const std::uint64_t high = shift == 0 ? 0 : mantissa >> (64 - shift);
    const std::int64_t sign = (bits >> 63) != 0 ? -1 : 1;
    std::int64_t *digit = digit_ + (position >> 5);
    digit[0] += sign * static_cast<std::int64_t>(low & 0xffffffffu);
    digit[1] += sign * static_cast<std::int64_t>(low >> 32);
    digit[2] += sign * static_cast<std::int64_t>(high);
    return true;
  }

  // Carry, so that all digits but the last are in [0, 2^32): one representation for one number.
  void normalize() {
    std::int64_t carry = 0;
    for (int i = 0; i < digits - 1; ++i) {
      const std::int64_t value = digit_[i] + carry;
      carry = value >> 32;  // rounds down, also for negative values
      digit_[i] = value - carry * (std::int64_t{1} << 32);
    }
    digit_[digits - 1] += carry;
  }

 private:
  std::int64_t *digit_;
};

}  // namespace exafel
