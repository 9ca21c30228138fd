// Python bindings of the indexing kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <vector>

#include "dispatch.hpp"
#include "exafel/indexing.hpp"

namespace nb = nanobind;

namespace {

using Components = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Scores = nb::ndarray<nb::numpy, float, nb::ndim<1>>;

Scores score_vectors(const Components &vectors, const Components &rlp, float width) {
  if (vectors.shape(0) != 3 || rlp.shape(0) != 3) throw std::invalid_argument("expected arrays of shape (3, n)");
  if (!(width > 0.0f && width <= 0.5f)) throw std::invalid_argument("width must lie in (0, 0.5]");
  const std::size_t n = vectors.shape(1);
  auto *scores = new std::vector<float>(n);
  nb::capsule owner(scores, [](void *p) noexcept { delete static_cast<std::vector<float> *>(p); });
  {
    nb::gil_scoped_release release;
    EXAFEL_DISPATCH(score_vectors, vectors.data(), n, rlp.data(), rlp.shape(1), width, scores->data());
  }
  return Scores(scores->data(), {n}, owner);
}

}  // namespace

void bind_indexing(nb::module_ &m) {
  m.def("score_vectors", &score_vectors, nb::arg("vectors"), nb::arg("rlp"), nb::arg("width"),
        "Sum over spots of max(0, 1 - (f / width)^2), f the distance of t.q from the nearest integer.");
}
