// Bindings of postrefinement.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

#include <cstddef>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "exafel/postrefine.hpp"

namespace nb = nanobind;

namespace {

using Doubles = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Vectors = nb::ndarray<const double, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;

exafel::StillModel model_of(const Doubles &parameters, const Doubles &s0) {
  if (parameters.shape(0) != exafel::n_postrefined || s0.shape(0) != 3)
    throw std::invalid_argument("postrefinement needs six parameters and a beam vector of three");
  return exafel::StillModel(parameters.data(), s0.data());
}

nb::object matrix_of(const std::vector<double> &values, std::size_t rows, std::size_t columns) {
  auto *data = new double[values.size() + 1];
  for (std::size_t i = 0; i < values.size(); ++i) data[i] = values[i];
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<double *>(p); });
  return nb::cast(nb::ndarray<nb::numpy, double, nb::ndim<2>>(data, {rows, columns}, owner));
}

std::tuple<double, nb::object, nb::object> normal_equations(const Doubles &parameters, const Doubles &s0,
                                                            const Vectors &nodes, const Doubles &observed,
                                                            const Doubles &reference, const Doubles &weight) {
  const std::size_t n = nodes.shape(0);
  if (observed.shape(0) != n || reference.shape(0) != n || weight.shape(0) != n)
    throw std::invalid_argument("the columns differ in length");
  const auto model = model_of(parameters, s0);
  constexpr std::size_t m = exafel::n_postrefined;
  std::vector<double> gradient(m, 0.0), normal(m * m, 0.0);
  double target = 0.0;
  {
    nb::gil_scoped_release release;
    target = exafel::postrefine_normal(model, n, nodes.data(), observed.data(), reference.data(), weight.data(),
                                       gradient.data(), normal.data());
  }
  return {target, exafel::to_numpy(gradient, [](double v) { return v; }), matrix_of(normal, m, m)};
}

std::tuple<nb::object, nb::object> still_factors(const Doubles &parameters, const Doubles &s0, const Vectors &nodes) {
  const auto model = model_of(parameters, s0);
  std::vector<double> scale(nodes.shape(0)), partiality(nodes.shape(0));
  for (std::size_t i = 0; i < scale.size(); ++i)
    partiality[i] = model.partiality(nodes.data() + 3 * i, scale[i], nullptr);
  const auto same = [](double v) { return v; };
  return {exafel::to_numpy(scale, same), exafel::to_numpy(partiality, same)};
}

}  // namespace

void bind_postrefine(nb::module_ &m) {
  m.def("postrefine_normal", &normal_equations, nb::arg("parameters"), nb::arg("s0"), nb::arg("nodes"),
        nb::arg("observed"), nb::arg("reference"), nb::arg("weight"),
        "Target 1/2 sum w (G exp(-2 B s^2) p I - observed)^2, gradient (6,) and Gauss-Newton matrix (6, 6) for "
        "G, B, RS, ETA, theta_x, theta_y.");
  m.def("still_factors", &still_factors, nb::arg("parameters"), nb::arg("s0"), nb::arg("nodes"),
        "G exp(-2 B s^2) and partiality of nodes A h (n, 3), shape (n,) each.");
}
