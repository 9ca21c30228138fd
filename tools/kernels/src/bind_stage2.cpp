// Binding of stage 2's sums over pixels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <vector>

#include "dispatch.hpp"
#include "exafel/stage2_shots.hpp"

namespace nb = nanobind;
using exafel::PackedShots;

namespace {

template <class T>
using Input = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T, class... Shape>
using Output = nb::ndarray<T, nb::c_contig, nb::device::cpu, Shape...>;
using Longs = Input<std::int64_t>;
using Ints = Input<std::int32_t>;
using Floats = Input<float>;

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// Arrays of packed shots, checked once; they are kept alive by the Python object that owns this one.
class Stage2Shots {
 public:
  Stage2Shots(Longs reflection_start, Ints reflection, Ints n_single, Longs pixel_start, Floats data, Floats background,
              Longs single_start, Floats single_k, Longs row_start, Ints row_terms, Longs term_start,
              Ints term_reflection, Floats term_k)
      : shots_{static_cast<std::int64_t>(pixel_start.shape(0)) - 1,
               reflection_start.data(),
               reflection.data(),
               n_single.data(),
               pixel_start.data(),
               data.data(),
               background.data(),
               single_start.data(),
               single_k.data(),
               row_start.data(),
               row_terms.data(),
               term_start.data(),
               term_reflection.data(),
               term_k.data()} {
    const std::size_t n = pixel_start.shape(0);
    require(n >= 1, "at least the start of the first shot is needed");
    for (const auto& start : {reflection_start, single_start, row_start, term_start})
      require(start.shape(0) == n, "starts of other numbers of shots");
    require(ends_with(reflection_start, reflection.shape(0)) && n_single.shape(0) == reflection.shape(0) &&
                ends_with(pixel_start, data.shape(0)) && background.shape(0) == data.shape(0) &&
                ends_with(single_start, single_k.shape(0)) && ends_with(row_start, row_terms.shape(0)) &&
                ends_with(term_start, term_k.shape(0)) && term_reflection.shape(0) == term_k.shape(0),
            "arrays do not end where the last shot ends");
    for (std::size_t i = 0; i < reflection.shape(0); ++i) highest_ = std::max(highest_, reflection.data()[i]);
    for (std::size_t i = 0; i < reflection.shape(0); ++i) require(reflection.data()[i] >= 0, "a negative reflection");
    for (std::int64_t shot = 0; shot < shots_.n_shots; ++shot) check(shot);
  }

  // Likelihood and sums of Z^2 by shot; derivatives by ln F where their arrays are not empty.
  void evaluate(Input<double> f_squared, double noise, bool refine_scale, Output<double, nb::ndim<1>> log_scale,
                Output<double, nb::shape<-1, exafel::shot_numbers>> numbers, Output<double, nb::ndim<1>> gradient,
                Output<double, nb::ndim<1>> curvature, int threads) const {
    const std::size_t n = f_squared.shape(0);
    require(highest_ < static_cast<std::int64_t>(n), "a reflection that is not in the list");
    require(static_cast<std::int64_t>(log_scale.shape(0)) == shots_.n_shots && numbers.shape(0) == log_scale.shape(0),
            "scales or numbers of other shots");
    require((gradient.shape(0) == n || gradient.shape(0) == 0) && (curvature.shape(0) == n || curvature.shape(0) == 0),
            "derivatives of another number of reflections");
    require(noise >= 0, "the variance of the read-out noise must not be negative");
    nb::gil_scoped_release release;
    const int used = static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(shots_.n_shots, 1)));
    const std::size_t n_gradient = gradient.shape(0), n_curvature = curvature.shape(0);
    // sums are exact on their grid, so it does not matter how shots are shared out
    std::vector<std::vector<double>> sums(used, std::vector<double>(n_gradient + n_curvature, 0.0));
    const auto part = [&](int i) {
      double* sum = sums[i].data();
      EXAFEL_DISPATCH(stage2_shots, shots_, shots_.n_shots * i / used, shots_.n_shots * (i + 1) / used,
                      f_squared.data(), noise, refine_scale, log_scale.data(), numbers.data(),
                      n_gradient ? sum : nullptr, n_curvature ? sum + n_gradient : nullptr);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < used; ++i) others.emplace_back(part, i);
    part(0);
    for (auto& other : others) other.join();
    for (const auto& sum : sums) {
      for (std::size_t i = 0; i < n_gradient; ++i) gradient.data()[i] += sum[i];
      for (std::size_t i = 0; i < n_curvature; ++i) curvature.data()[i] += sum[n_gradient + i];
    }
  }

 private:
  PackedShots shots_;
  std::int32_t highest_ = -1;

  static bool ends_with(const Longs& start, std::size_t end) {
    for (std::size_t i = 1; i < start.shape(0); ++i)
      if (start.data()[i] < start.data()[i - 1]) return false;
    return start.data()[0] == 0 && start.data()[start.shape(0) - 1] == static_cast<std::int64_t>(end);
  }

  // The counts of a shot add up to its parts of the arrays.
  void check(std::int64_t i) const {
    const PackedShots& s = shots_;
    std::int64_t singles = 0, terms = 0;
    for (std::int64_t r = s.reflection_start[i]; r < s.reflection_start[i + 1]; ++r) {
      require(s.n_single[r] >= 0, "a negative number of pixels");
      require(r == s.reflection_start[i] || s.n_single[r] <= s.n_single[r - 1],
              "reflections of a shot that are not in descending order of their pixels");
      singles += s.n_single[r];
    }
    for (std::int64_t row = s.row_start[i]; row < s.row_start[i + 1]; ++row) terms += s.row_terms[row];
    const std::int64_t rows = s.row_start[i + 1] - s.row_start[i];
    require(singles == s.single_start[i + 1] - s.single_start[i] && terms == s.term_start[i + 1] - s.term_start[i] &&
                singles + rows == s.pixel_start[i + 1] - s.pixel_start[i],
            "a shot's counts do not add up");
    const std::int64_t known = s.reflection_start[i + 1] - s.reflection_start[i];
    for (std::int64_t t = s.term_start[i]; t < s.term_start[i + 1]; ++t)
      require(s.term_reflection[t] >= 0 && s.term_reflection[t] < known, "a term of a reflection that the shot lacks");
  }
};

}  // namespace

void bind_stage2(nb::module_& m) {
  nb::class_<Stage2Shots>(m, "Stage2Shots")
      .def(nb::init<Longs, Ints, Ints, Longs, Floats, Floats, Longs, Floats, Longs, Ints, Longs, Ints, Floats>(),
           nb::arg("reflection_start").noconvert(), nb::arg("reflection").noconvert(), nb::arg("n_single").noconvert(),
           nb::arg("pixel_start").noconvert(), nb::arg("data").noconvert(), nb::arg("background").noconvert(),
           nb::arg("single_start").noconvert(), nb::arg("single_k").noconvert(), nb::arg("row_start").noconvert(),
           nb::arg("row_terms").noconvert(), nb::arg("term_start").noconvert(),
           nb::arg("term_reflection").noconvert(), nb::arg("term_k").noconvert())
      .def("evaluate", &Stage2Shots::evaluate, nb::arg("f_squared").noconvert(), nb::arg("noise"),
           nb::arg("refine_scale"), nb::arg("log_scale").noconvert(), nb::arg("numbers").noconvert(),
           nb::arg("gradient").noconvert(), nb::arg("curvature").noconvert(), nb::arg("threads"),
           "Likelihood, sum of Z^2 and of bounded Z^2 by shot; adds derivatives by ln F to arrays that are not empty.");
}
