// Bindings of the merging kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "exafel/exact_sum.hpp"

namespace nb = nanobind;

namespace {

using exafel::ExactSum;
using Doubles = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using DoubleRows = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Groups = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Digits = nb::ndarray<nb::numpy, std::int64_t, nb::ndim<3>>;

// Exact sums of `rows` quantities in `n_groups` groups.
class GroupedSums {
 public:
  GroupedSums(std::size_t rows, std::size_t n_groups)
      : rows_(rows), n_groups_(n_groups), digits_(rows * n_groups * ExactSum::digits, 0) {}

  bool add(std::size_t row, std::size_t group, double term) { return sum(row, group).add(term); }

  void normalize() {
    for (std::size_t row = 0; row < rows_; ++row)
      for (std::size_t group = 0; group < n_groups_; ++group) sum(row, group).normalize();
  }

  Digits to_numpy() const {
    auto *data = new std::int64_t[digits_.size()];
    std::copy(digits_.begin(), digits_.end(), data);
    nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<std::int64_t *>(p); });
    return Digits(data, {rows_, n_groups_, static_cast<std::size_t>(ExactSum::digits)}, owner);
  }

 private:
  ExactSum sum(std::size_t row, std::size_t group) {
    return ExactSum(digits_.data() + (row * n_groups_ + group) * ExactSum::digits);
  }

  std::size_t rows_, n_groups_;
  std::vector<std::int64_t> digits_;
};

// Calls add_item(i, group) for each item, checking groups and carrying in time; add_item returns false for NaN.
template <class AddItem>
void for_each_item(const Groups &groups, std::size_t n_groups, GroupedSums &sums, AddItem add_item) {
  const std::size_t n = groups.shape(0);
  const std::int64_t *group = groups.data();
  bool in_range = true, finite = true;
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < n && in_range && finite; ++i) {
      in_range = group[i] >= 0 && group[i] < static_cast<std::int64_t>(n_groups);
      if (in_range) finite = add_item(i, static_cast<std::size_t>(group[i]));
      if ((i + 1) % ExactSum::max_terms == 0) sums.normalize();
    }
    sums.normalize();
  }
  if (!in_range) throw std::invalid_argument("a group number is out of range");
  if (!finite) throw std::invalid_argument("a term is not finite");
}

Digits exact_sums(const DoubleRows &values, const Groups &groups, std::size_t n_groups) {
  const std::size_t rows = values.shape(0), n = values.shape(1);
  if (n != groups.shape(0)) throw std::invalid_argument("values and groups differ in length");
  GroupedSums sums(rows, n_groups);
  for_each_item(groups, n_groups, sums, [&](std::size_t i, std::size_t group) {
    bool finite = true;
    for (std::size_t row = 0; row < rows; ++row) finite = sums.add(row, group, values.data()[row * n + i]) && finite;
    return finite;
  });
  return sums.to_numpy();
}

// With v = max(variance + sdb^2 mean + sdadd^2 mean^2, floor variance): sums of squared/v and, where the floor is not
// met, of squared mean/v^2 and squared mean^2/v^2, by intensity bin.
Digits ev11_sums(const Doubles &squared, const Doubles &mean, const Doubles &variance, const Groups &bins,
                 std::size_t n_bins, double sdb, double sdadd, double floor) {
  const std::size_t n = bins.shape(0);
  if (squared.shape(0) != n || mean.shape(0) != n || variance.shape(0) != n)
    throw std::invalid_argument("the columns differ in length");
  GroupedSums sums(3, n_bins);
  for_each_item(bins, n_bins, sums, [&](std::size_t i, std::size_t bin) {
    const double m = mean.data()[i];
    const double lowest = floor * variance.data()[i];
    const double v = variance.data()[i] + m * (sdb * sdb + sdadd * sdadd * m);
    const double ratio = squared.data()[i] / std::max(v, lowest);
    if (!sums.add(0, bin, ratio)) return false;
    if (v <= lowest) return true;
    const double slope = ratio / v * m;
    return sums.add(1, bin, slope) && sums.add(2, bin, slope * m);
  });
  return sums.to_numpy();
}

}  // namespace

void bind_merging(nb::module_ &m) {
  m.def("exact_sums", &exact_sums, nb::arg("values"), nb::arg("groups"), nb::arg("n_groups"),
        "Digits of the exact sums of each row of values (k, n) by group (n,), shape (k, n_groups, digits).");
  m.def("ev11_sums", &ev11_sums, nb::arg("squared"), nb::arg("mean"), nb::arg("variance"), nb::arg("bins"),
        nb::arg("n_bins"), nb::kw_only(), nb::arg("sdb"), nb::arg("sdadd"), nb::arg("floor"),
        "Digits of the exact sums that the target of the ev11 error model is made of, shape (3, n_bins, digits).");
}
