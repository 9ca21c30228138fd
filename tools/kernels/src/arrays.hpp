// NumPy arrays in and out of the bindings.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <stdexcept>
#include <vector>

namespace exafel {

namespace nb = nanobind;

template <class T>
using Image = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// One-dimensional array of value(item) for each item.
template <class T, class Value>
nb::object to_numpy(const std::vector<T> &items, Value value) {
  using V = decltype(value(items[0]));
  auto *data = new V[items.size() + 1];
  for (size_t i = 0; i < items.size(); ++i) data[i] = value(items[i]);
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<V *>(p); });
  return nb::cast(nb::ndarray<nb::numpy, V, nb::ndim<1>>(data, {items.size()}, owner));
}

inline void check_shapes(size_t s0, size_t s1, size_t m0, size_t m1) {
  if (s0 != m0 || s1 != m1) throw std::invalid_argument("the mask's shape is not the image's");
}

}  // namespace exafel
