// bzip2 decompression that hides the latency of memory: several blocks' inverse Burrows-Wheeler transforms at once.
//
// That transform follows a chain of four-byte links through some megabytes, and each link waits for the one before. Blocks
// are independent, so their chains are followed side by side. Format: J. Seward, bzip2 1.0; Huffman-coded move-to-front
// indices of a Burrows-Wheeler transform, with run lengths before and after, and checksums of every block.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace exafel {

// What is damaged, or not supported (the randomised blocks of bzip2 before 0.9.5).
struct Bzip2Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace bzip2 {

constexpr int kMaxLength = 20;    // of a code, bits
constexpr int kFastBits = 11;     // codes up to this long are found by one look-up
constexpr int kSymbolsPerGroup = 50;
constexpr std::size_t kLanes = 8; // blocks whose chains are followed side by side

class Bits {
 public:
  Bits(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}

  // The next n bits, most significant first, n <= 32; zeros beyond the end, which `used_up` then tells.
  std::uint32_t peek(int n) {
    if (count_ < n) refill();
    return static_cast<std::uint32_t>(buffer_ >> (64 - n));
  }
  void skip(int n) {
    if (count_ < n) refill();
    buffer_ <<= n;
    count_ -= n;
  }
  std::uint32_t get(int n) {
    const std::uint32_t value = peek(n);
    skip(n);
    return value;
  }
  bool used_up() const { return padding_ > count_; }
  void align() { skip(count_ & 7); }
  // Bytes that are left, once aligned.
  std::size_t left() const { return used_up() ? 0 : size_ - at_ + static_cast<std::size_t>((count_ - padding_) / 8); }

 private:
  void refill() {
    while (count_ <= 56) {
      std::uint64_t byte = 0;
      if (at_ < size_)
        byte = data_[at_++];
      else
        padding_ += 8;
      buffer_ |= byte << (56 - count_);
      count_ += 8;
    }
  }
  const std::uint8_t *data_;
  std::size_t size_, at_ = 0;
  std::uint64_t buffer_ = 0;
  int count_ = 0;
  std::int64_t padding_ = 0;
};

// Canonical Huffman code: short codes by a table, longer ones by their length's first code.
struct Code {
  std::array<std::uint16_t, std::size_t{1} << kFastBits> fast;  // symbol * 32 + length, 0 where the code is longer
  std::array<std::int32_t, kMaxLength + 2> limit, offset;       // largest code of each length, and its symbol's place
  std::array<std::uint16_t, 258> symbols;

  void build(const std::uint8_t *length, int n) {
    int place = 0;
    std::int32_t code = 0;
    fast.fill(0);
    for (int bits = 1; bits <= kMaxLength; ++bits) {
      offset[static_cast<std::size_t>(bits)] = place - code;
      for (int symbol = 0; symbol < n; ++symbol) {
        if (length[symbol] != bits) continue;
        symbols[static_cast<std::size_t>(place++)] = static_cast<std::uint16_t>(symbol);
        if (code >= std::int32_t{1} << bits) throw Bzip2Error("a code is over-full");
        if (bits <= kFastBits) {
          const auto first = static_cast<std::size_t>(code) << (kFastBits - bits);
          const std::size_t last = first + (std::size_t{1} << (kFastBits - bits));
          for (std::size_t k = first; k < last; ++k) fast[k] = static_cast<std::uint16_t>(symbol * 32 + bits);
        }
        ++code;
      }
      limit[static_cast<std::size_t>(bits)] = code - 1;
      code <<= 1;
    }
  }

  int decode(Bits &bits) const {
    const std::uint16_t hit = fast[bits.peek(kFastBits)];
    if (hit != 0) {
      bits.skip(hit & 31);
      return hit >> 5;
    }
    const std::uint32_t window = bits.peek(kMaxLength);
    for (int n = kFastBits + 1; n <= kMaxLength; ++n) {
      const auto code = static_cast<std::int32_t>(window >> (kMaxLength - n));
      const auto k = static_cast<std::size_t>(n);
      if (code > limit[k]) continue;
      const std::int32_t place = code + offset[k];
      if (place < 0 || place >= 258) break;
      bits.skip(n);
      return symbols[static_cast<std::size_t>(place)];
    }
    throw Bzip2Error("a code is damaged");
  }
};

// One block: links of the Burrows-Wheeler transform (byte below, next above), and where the text starts.
struct Block {
  std::vector<std::uint32_t> links;
  std::size_t size = 0;
  std::uint32_t start = 0, checksum = 0;
};

inline void read_codes(Bits &bits, int n_symbols, std::vector<Code> &codes) {
  std::array<std::uint8_t, 258> length{};
  for (Code &code : codes) {
    int bit_length = static_cast<int>(bits.get(5));
    for (int symbol = 0; symbol < n_symbols; ++symbol) {
      while (bits.get(1) != 0) {
        bit_length += bits.get(1) != 0 ? -1 : 1;
        if (bit_length < 1 || bit_length > kMaxLength) throw Bzip2Error("the length of a code is damaged");
      }
      if (bit_length < 1 || bit_length > kMaxLength) throw Bzip2Error("the length of a code is damaged");
      length[static_cast<std::size_t>(symbol)] = static_cast<std::uint8_t>(bit_length);
    }
    code.symbols.fill(0);
    code.build(length.data(), n_symbols);
  }
}

// The bytes in use, and their number.
inline int read_alphabet(Bits &bits, std::array<std::uint8_t, 256> &bytes) {
  const std::uint32_t used = bits.get(16);
  int n = 0;
  for (int high = 0; high < 16; ++high) {
    if ((used >> (15 - high) & 1U) == 0) continue;
    const std::uint32_t row = bits.get(16);
    for (int low = 0; low < 16; ++low)
      if ((row >> (15 - low) & 1U) != 0) bytes[static_cast<std::size_t>(n++)] = static_cast<std::uint8_t>(16 * high + low);
  }
  if (n == 0) throw Bzip2Error("a block uses no bytes");
  return n;
}

inline std::vector<std::uint8_t> read_selectors(Bits &bits, std::uint32_t n_codes) {
  const std::uint32_t n = bits.get(15);
  if (n == 0) throw Bzip2Error("a block has no selectors");
  std::array<std::uint8_t, 6> order{0, 1, 2, 3, 4, 5};
  std::vector<std::uint8_t> selectors(n);
  for (std::uint8_t &selector : selectors) {
    std::uint32_t place = 0;
    while (bits.get(1) != 0)
      if (++place >= n_codes) throw Bzip2Error("a selector is damaged");
    selector = order[place];
    for (; place > 0; --place) order[place] = order[place - 1];
    order[0] = selector;
  }
  return selectors;
}

// Reads a block's move-to-front indices into the low bytes of its links.
inline void read_block(Bits &bits, std::size_t capacity, Block &block) {
  block.checksum = bits.get(32);
  if (bits.get(1) != 0) throw Bzip2Error("a randomised block");
  block.start = bits.get(24);
  std::array<std::uint8_t, 256> front{};
  const int n_bytes = read_alphabet(bits, front), end = n_bytes + 1;
  const std::uint32_t n_codes = bits.get(3);
  if (n_codes < 2 || n_codes > 6) throw Bzip2Error("the number of codes is damaged");
  const std::vector<std::uint8_t> selectors = read_selectors(bits, n_codes);
  std::vector<Code> codes(n_codes);
  read_codes(bits, n_bytes + 2, codes);

  block.links.resize(capacity);
  std::uint32_t *links = block.links.data();
  std::array<std::uint32_t, 256> counts{};
  std::size_t size = 0, run = 0;
  int shift = 0;
  const auto end_run = [&] {
    if (run > capacity - size) throw Bzip2Error("a block is longer than it can be");
    counts[front[0]] += static_cast<std::uint32_t>(run);
    for (; run > 0; --run) links[size++] = front[0];
    shift = 0;
  };
  for (const std::uint8_t selector : selectors) {
    const Code &code = codes[selector];
    if (bits.used_up()) throw Bzip2Error("the data end too early");
    for (int k = 0; k < kSymbolsPerGroup; ++k) {
      const int symbol = code.decode(bits);
      if (symbol < 2) {  // a digit of a run's length, in the system of base two with digits one and two
        if (shift > 21) throw Bzip2Error("a run is longer than a block");
        run += std::size_t{1} << (shift + symbol);
        ++shift;
        continue;
      }
      if (shift > 0) end_run();
      if (symbol == end) {
        block.size = size;
        if (block.start >= size) throw Bzip2Error("the start of a block is damaged");
        std::array<std::uint32_t, 256> next{};
        std::uint32_t total = 0;
        for (std::size_t b = 0; b < 256; ++b) next[b] = total, total += counts[b];
        for (std::size_t i = 0; i < size; ++i) links[next[links[i] & 0xffU]++] |= static_cast<std::uint32_t>(i) << 8;
        return;
      }
      if (size >= capacity) throw Bzip2Error("a block is longer than it can be");
      const auto place = static_cast<std::size_t>(symbol - 1);
      const std::uint8_t byte = front[place];
      if (place < 16)
        for (std::size_t i = place; i > 0; --i) front[i] = front[i - 1];
      else
        std::memmove(front.data() + 1, front.data(), place);
      front[0] = byte;
      ++counts[byte];
      links[size++] = byte;
    }
  }
  throw Bzip2Error("a block has no end");
}

// Follows the chains of all blocks side by side; each block's text takes the place of its first links, byte by byte.
inline void follow_chains(std::vector<Block> &blocks, std::size_t n, std::vector<std::vector<std::uint8_t>> &texts) {
  std::array<std::uint32_t, kLanes> at{};
  std::size_t longest = 0, shortest = SIZE_MAX;
  for (std::size_t k = 0; k < n; ++k) {
    texts[k].resize(blocks[k].size);
    at[k] = blocks[k].links[blocks[k].start] >> 8;
    longest = blocks[k].size > longest ? blocks[k].size : longest;
    shortest = blocks[k].size < shortest ? blocks[k].size : shortest;
  }
  std::array<const std::uint32_t *, kLanes> links{};
  std::array<std::uint8_t *, kLanes> out{};
  for (std::size_t k = 0; k < n; ++k) links[k] = blocks[k].links.data(), out[k] = texts[k].data();
  std::size_t i = 0;
  if (n == kLanes)
    for (; i < shortest; ++i)
      for (std::size_t k = 0; k < kLanes; ++k) {
        const std::uint32_t link = links[k][at[k]];
        out[k][i] = static_cast<std::uint8_t>(link);
        at[k] = link >> 8;
      }
  for (; i < longest; ++i)
    for (std::size_t k = 0; k < n; ++k) {
      if (i >= blocks[k].size) continue;
      const std::uint32_t link = links[k][at[k]];
      out[k][i] = static_cast<std::uint8_t>(link);
      at[k] = link >> 8;
    }
}

// CRC-32 with the polynomial 0x04c11db7, most significant bit first, four bytes at a step.
inline std::uint32_t checksum(const char *data, std::size_t n) {
  static const auto tables = [] {
    std::array<std::array<std::uint32_t, 256>, 4> t{};
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t value = b << 24;
      for (int bit = 0; bit < 8; ++bit) value = (value << 1) ^ ((value >> 31) != 0 ? 0x04c11db7U : 0U);
      t[0][b] = value;
    }
    for (std::size_t k = 1; k < 4; ++k)
      for (std::size_t b = 0; b < 256; ++b) t[k][b] = (t[k - 1][b] << 8) ^ t[0][t[k - 1][b] >> 24];
    return t;
  }();
  std::uint32_t crc = 0xffffffffU;
  const auto *p = reinterpret_cast<const std::uint8_t *>(data);
  for (; n >= 4; n -= 4, p += 4) {
    crc ^= std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
    crc = tables[3][crc >> 24] ^ tables[2][crc >> 16 & 0xffU] ^ tables[1][crc >> 8 & 0xffU] ^ tables[0][crc & 0xffU];
  }
  for (; n > 0; --n, ++p) crc = (crc << 8) ^ tables[0][(crc >> 24) ^ *p];
  return ~crc;
}

// Undoes the first run-length coding (four equal bytes are followed by the number of further ones) and checks the text.
inline void append_text(const std::vector<std::uint8_t> &text, std::uint32_t wanted, std::string &out) {
  const std::size_t first = out.size();
  out.reserve(first + text.size() + text.size() / 8);
  int equal = 0;
  int last = -1;
  for (const std::uint8_t byte : text) {
    if (equal == 4) {
      out.append(byte, static_cast<char>(last));
      equal = 0, last = -1;
      continue;
    }
    equal = byte == last ? equal + 1 : 1;
    last = byte;
    out.push_back(static_cast<char>(byte));
  }
  if (checksum(out.data() + first, out.size() - first) != wanted) throw Bzip2Error("a block's checksum is wrong");
}

}  // namespace bzip2

// Decompresses a whole file: one stream or several, one after the other; anything else at the end is an error.
inline std::string decompress_bzip2(const std::uint8_t *data, std::size_t size) {
  bzip2::Bits bits(data, size);
  std::string out;
  std::vector<bzip2::Block> blocks(bzip2::kLanes);
  std::vector<std::vector<std::uint8_t>> texts(bzip2::kLanes);
  do {
    if (bits.get(24) != 0x425a68U) throw Bzip2Error("no bzip2 stream");
    const std::uint32_t level = bits.get(8) - '0';
    if (level < 1 || level > 9) throw Bzip2Error("the size of the blocks is damaged");
    std::uint32_t combined = 0;
    for (bool more = true; more;) {
      std::size_t n = 0;
      while (n < bzip2::kLanes) {
        const std::uint32_t high = bits.get(24), low = bits.get(24);
        more = high == 0x314159U && low == 0x265359U;
        if (!more && (high != 0x177245U || low != 0x385090U)) throw Bzip2Error("no block where one should begin");
        if (!more) break;
        bzip2::read_block(bits, std::size_t{100000} * level, blocks[n++]);
      }
      bzip2::follow_chains(blocks, n, texts);
      for (std::size_t k = 0; k < n; ++k) {
        bzip2::append_text(texts[k], blocks[k].checksum, out);
        combined = (combined << 1 | combined >> 31) ^ blocks[k].checksum;
      }
    }
    if (bits.get(32) != combined) throw Bzip2Error("the checksum is wrong");
    bits.align();
    if (bits.used_up()) throw Bzip2Error("the data end too early");
  } while (bits.left() > 0);
  return out;
}

}  // namespace exafel
