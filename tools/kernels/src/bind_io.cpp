// Bindings of the decoders of image files.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

#include <memory>
#include <tuple>

#include "exafel/bzip2.hpp"
#include "exafel/cbf.hpp"

namespace nb = nanobind;

namespace {

using Shape = std::tuple<std::size_t, std::size_t, std::size_t>;
using Int32Volume = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<3>>;

// An array of this shape that `decode(bytes, size, memory)` fills without the interpreter's lock.
template <class Decode>
Int32Volume decoded(const nb::bytes &data, const Shape &shape, Decode decode) {
  const auto [slow, mid, fast] = shape;
  std::unique_ptr<std::int32_t[]> out(new std::int32_t[fast * mid * slow]);
  {
    nb::gil_scoped_release release;
    decode(reinterpret_cast<const std::uint8_t *>(data.c_str()), data.size(), out.get());
  }
  std::int32_t *memory = out.release();
  nb::capsule owner(memory, [](void *p) noexcept { delete[] static_cast<std::int32_t *>(p); });
  return Int32Volume(memory, {slow, mid, fast}, owner);
}

Int32Volume decode_cbf_packed(const nb::bytes &data, const Shape &shape, bool version2, bool averaged,
                              bool sections_correlated) {
  const auto [slow, mid, fast] = shape;
  const exafel::PackedLayout layout{fast, mid, slow, version2, averaged, sections_correlated};
  return decoded(data, shape, [&](const std::uint8_t *bytes, std::size_t size, std::int32_t *out) {
    exafel::decode_packed(bytes, size, layout, reinterpret_cast<std::uint32_t *>(out));
  });
}

nb::bytes decompress_bzip2(const nb::bytes &data) {
  std::string text;
  {
    nb::gil_scoped_release release;
    text = exafel::decompress_bzip2(reinterpret_cast<const std::uint8_t *>(data.c_str()), data.size());
  }
  return nb::bytes(text.data(), text.size());
}

}  // namespace

void bind_io(nb::module_ &m) {
  m.def("decode_cbf_packed", &decode_cbf_packed, nb::arg("data"), nb::arg("shape"), nb::kw_only(),
        nb::arg("version2") = false, nb::arg("averaged") = true, nb::arg("sections_correlated") = true,
        "Decode a binary section of CBF 'packed' data into an int32 array of shape (slow, mid, fast).");
  m.def("decompress_bzip2", &decompress_bzip2, nb::arg("data"),
        "Unpack a whole bzip2 file. RuntimeError: it is damaged, or of a rarer form that the bz2 module may know.");
}
