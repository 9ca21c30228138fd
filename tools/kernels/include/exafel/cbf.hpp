// Decoder of the "packed" compression of integer arrays in CBF files (International Tables for Crystallography G,
// 5.6.3.2; the averaging of neighbours is described in the CBFlib manual, section 3.3.2).
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace exafel {

// Bits of a stream, least significant first. Reading beyond the end throws.
class BitReader {
 public:
  BitReader(const std::uint8_t *data, std::size_t size) : next_(data), end_(data + size) {}

  std::uint32_t unsigned_bits(unsigned count) {
    while (available_ < count) {
      if (next_ == end_) throw std::out_of_range("the compressed data end too early");
      store_ |= static_cast<std::uint64_t>(*next_++) << available_;
      available_ += 8;
    }
    const auto value = static_cast<std::uint32_t>(store_ & ((std::uint64_t{1} << count) - 1));
    store_ >>= count;
    available_ -= count;
    return value;
  }

  // Two's complement of `count` bits, as its low 32 bits.
  std::uint32_t signed_bits(unsigned count) {
    if (count == 0) return 0;
    if (count > 32) {
      const std::uint32_t low = unsigned_bits(32);
      for (unsigned left = count - 32; left > 0;) {
        const unsigned part = left < 32 ? left : 32;
        unsigned_bits(part);
        left -= part;
      }
      return low;
    }
    const std::uint32_t value = unsigned_bits(count);
    const std::uint32_t sign = std::uint32_t{1} << (count - 1);
    return (value ^ sign) - sign;
  }

 private:
  const std::uint8_t *next_, *end_;
  std::uint64_t store_ = 0;
  unsigned available_ = 0;
};

struct PackedLayout {
  std::size_t fast, mid, slow;  // dimensions of the array
  bool version2;                // "packed_v2": four bits instead of three say how long the offsets are
  bool averaged;                // offsets count from the average of the neighbours, not from the last element
  bool sections_correlated;     // neighbours in the section before count too
};

// What the next element's offset counts from. Sums run modulo 2^32 and shifts keep the sign, as in the encoder.
inline std::uint32_t packed_base(const std::uint32_t *next, std::size_t f, std::size_t m, std::size_t s,
                                 const PackedLayout &layout) {
  const std::size_t row = layout.fast, section = layout.fast * layout.mid;
  if (m == 0) {
    if (f > 0) return next[-1];
    return s > 0 ? *(next - section) : 0;
  }
  const bool last = f + 1 == layout.fast;
  std::uint32_t sum = 0;
  unsigned shift = 0;
  const auto add = [&](const std::uint32_t *at) {
    if (f == 0 && !last) {
      sum += at[-static_cast<std::ptrdiff_t>(row)] + at[1 - static_cast<std::ptrdiff_t>(row)];
      shift = 1;
    } else {
      sum += at[-static_cast<std::ptrdiff_t>(row)];
      shift = 1;
      if (!last) {
        sum += at[1 - static_cast<std::ptrdiff_t>(row)] + at[-1 - static_cast<std::ptrdiff_t>(row)];
        shift = 2;
      }
    }
  };
  add(next);
  if (f > 0) sum += next[-1];
  if (s > 0 && layout.sections_correlated) {
    add(next - section);
    if (f > 0) sum += *(next - section);
    ++shift;
  }
  return static_cast<std::uint32_t>((static_cast<std::int32_t>(sum) + (1 << (shift - 1))) >> shift);
}

// Fills fast*mid*slow elements. Throws std::out_of_range where the data end too early.
inline void decode_packed(const std::uint8_t *data, std::size_t size, const PackedLayout &layout,
                          std::uint32_t *out) {
  constexpr unsigned bits_v1[8] = {0, 4, 5, 6, 7, 8, 16, 65};
  constexpr unsigned bits_v2[16] = {0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 65};
  constexpr std::size_t header = 32;  // number of elements, minimum, maximum and a reserved word
  const std::size_t total = layout.fast * layout.mid * layout.slow;
  if (size < header) throw std::out_of_range("the compressed data end too early");
  BitReader reader(data + header, size - header);
  std::size_t f = 0, m = 0, s = 0;
  for (std::size_t done = 0; done < total;) {
    std::size_t count = std::size_t{1} << reader.unsigned_bits(3);
    unsigned bits = layout.version2 ? bits_v2[reader.unsigned_bits(4)] : bits_v1[reader.unsigned_bits(3)];
    if (layout.averaged && bits == 65) bits = 32;
    if (count > total - done) count = total - done;
    for (; count > 0; --count, ++done) {
      const std::uint32_t base = layout.averaged ? packed_base(out + done, f, m, s, layout)
                                 : done > 0      ? out[done - 1]
                                                 : 0;
      out[done] = base + reader.signed_bits(bits);
      if (++f == layout.fast) {
        f = 0;
        if (++m == layout.mid) {
          m = 0;
          ++s;
        }
      }
    }
  }
}

}  // namespace exafel
