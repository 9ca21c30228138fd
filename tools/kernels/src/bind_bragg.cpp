// Binding of the diffraction forward model.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

#include "bragg_device.hpp"
#include "bragg_windows.hpp"
#include "dispatch.hpp"
#include "exafel/bragg.hpp"
#include "exafel/crystal.hpp"
#include "exafel/dual.hpp"

namespace nb = nanobind;
using exafel::Int64;

namespace {

template <class T, class... Shape>
using Array = nb::ndarray<const T, nb::c_contig, nb::device::cpu, Shape...>;
template <class... Shape>
using Doubles = Array<double, Shape...>;
using Vector = Doubles<nb::shape<3>>;
template <class T, class... Shape>
using Output = nb::ndarray<T, nb::c_contig, nb::device::cpu, Shape...>;
using Image = Output<double, nb::ndim<1>>;
using PixelArray = Array<std::int32_t, nb::shape<-1, 3>>;

void require(bool condition, const char *message) {
  if (!condition) throw std::invalid_argument(message);
}

// Calls work(i) for i in [0, n), on as many threads as told; which thread takes which i is chance, and must not matter.
template <class Work>
void parallel_for(Int64 n, int threads, const Work &work) {
  std::atomic<Int64> next{0};
  const auto loop = [&] {
    for (Int64 i = next++; i < n; i = next++) work(i);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < std::min<Int64>(threads, n); ++i) others.emplace_back(loop);
  loop();
  for (auto &other : others) other.join();
}

// What a shot's pixels are computed from; it keeps the arrays that it points into.
class HostScene {
 public:
  HostScene(Doubles<nb::shape<-1, exafel::panel_numbers>> panels,
            Doubles<nb::shape<-1, exafel::direction_numbers>> directions, Vector beam, Vector polarization_axis,
            double polarization, Doubles<nb::ndim<1>> wave_numbers, double centre, Doubles<nb::ndim<2>> channels,
            Array<std::int32_t, nb::ndim<1>> buckets, Doubles<nb::ndim<2>> bases, Doubles<nb::shape<-1, 3, 3>> blocks,
            Doubles<nb::shape<-1, 3, 3, exafel::n_basis_variables>> jacobian, Doubles<nb::shape<3, 3>> mean_block,
            Vector block_slack, Vector n_cells, Doubles<nb::ndim<4>> table, Array<std::int64_t, nb::shape<3>> first_hkl,
            int shape, double scale, int oversample, int n_layers, double limit)
      : held_{keep(panels), keep(directions), keep(wave_numbers), keep(channels), keep(buckets),
              keep(bases),  keep(blocks),     keep(jacobian),     keep(table)},
        single_(channels.data(), channels.data() + channels.size()),
        single_bases_(bases.data(), bases.data() + bases.size()) {
    const auto n = static_cast<int>(wave_numbers.shape(0));
    const auto stride = static_cast<int>(channels.shape(1));
    require(n > 0 && channels.shape(0) == 4 && stride >= n + exafel::channel_padding, "four padded rows of channels");
    require(buckets.shape(0) > 1, "buckets of channels");
    require(table.shape(0) == 1 || (bases.shape(0) == table.shape(0) && bases.shape(1) == channels.shape(1)),
            "a basis for each table");
    require(blocks.shape(0) > 0 && directions.shape(0) > 0, "at least one mosaic block and one direction");
    require(jacobian.shape(0) == 0 || jacobian.shape(0) == blocks.shape(0), "as many Jacobians as blocks");
    require(oversample >= 1 && n_layers >= 0, "oversample must be positive and n_layers not negative");
    require(limit > 0 && shape >= 0 && shape <= 3, "a positive limit and a known shape");
    const auto fill = [&](auto &scene, const auto *rows, const auto *basis_rows) {
      scene = {static_cast<int>(panels.shape(0)),
               panels.data(),
               static_cast<int>(directions.shape(0)),
               directions.data(),
               {},
               {},
               polarization,
               {},
               static_cast<int>(blocks.shape(0)),
               blocks.data(),
               jacobian.shape(0) ? jacobian.data() : nullptr,
               {},
               {},
               {},
               {},
               static_cast<exafel::Shape>(shape),
               scale,
               oversample,
               n_layers,
               limit};
      std::copy_n(beam.data(), 3, scene.beam);
      std::copy_n(polarization_axis.data(), 3, scene.polarization_axis);
      std::copy_n(mean_block.data(), 9, scene.mean_block);
      std::copy_n(block_slack.data(), 3, scene.block_slack);
      std::copy_n(n_cells.data(), 3, scene.n_cells);
      scene.channels = {n,
                        centre,
                        wave_numbers.data()[0],
                        wave_numbers.data()[n - 1],
                        wave_numbers.data(),
                        rows,
                        rows + stride,
                        rows + 2 * static_cast<Int64>(stride),
                        stride,
                        buckets.data(),
                        static_cast<int>(buckets.shape(0)) - 1,
                        static_cast<int>(table.shape(0)),
                        basis_rows};
      scene.table.values = table.data();
      for (int i = 0; i < 3; ++i) {
        scene.table.first[i] = first_hkl.data()[i];
        scene.table.n[i] = static_cast<Int64>(table.shape(i + 1));
      }
    };
    fill(double_scene_, channels.data(), bases.data());
    fill(single_scene_, single_.data(), single_bases_.data());
    for (std::size_t i = 0; i < panels.shape(0); ++i) {
      first_pixel_.push_back(n_pixels_);
      const double *numbers = panels.data() + i * exafel::panel_numbers;
      n_pixels_ += static_cast<Int64>(numbers[11]) * static_cast<Int64>(numbers[12]);
    }
  }
  HostScene(const HostScene &) = delete;

  Int64 add_photons(Image image, bool all_pixels, bool single, int threads) const {
    require(static_cast<Int64>(image.shape(0)) == n_pixels_, "the image must have as many pixels as the panels");
    double *pixels = image.data();
    const nb::gil_scoped_release released;
    return single ? photons(single_scene_, pixels, all_pixels, threads)
                  : photons(double_scene_, pixels, all_pixels, threads);
  }

  Int64 gradients(PixelArray pixels, Image photons, Output<double, nb::shape<exafel::n_variables, -1>> derivatives,
                  bool single, int threads) const {
    const auto n = static_cast<Int64>(pixels.shape(0));
    require(double_scene_.jacobian != nullptr, "a scene without Jacobians has no gradients");
    require(static_cast<Int64>(photons.shape(0)) == n && static_cast<Int64>(derivatives.shape(1)) == n,
            "results as long as the pixels");
    check(pixels);
    const exafel::PixelList list{pixels.data(), n};
    double *values = photons.data(), *slopes = derivatives.data();
    const nb::gil_scoped_release released;
    return over_list(n, threads, [&](Int64 begin, Int64 end) {
      return single ? EXAFEL_DISPATCH(bragg_gradients, single_scene_, list, begin, end, values, slopes)
                    : EXAFEL_DISPATCH(bragg_gradients, double_scene_, list, begin, end, values, slopes);
    });
  }

  Int64 coefficients(PixelArray pixels, Output<std::int32_t, nb::ndim<1>> counts,
                     Output<std::int32_t, nb::ndim<2>> index, Output<double, nb::ndim<2>> value, bool single,
                     int threads) const {
    const auto n = static_cast<Int64>(pixels.shape(0));
    require(double_scene_.channels.n_tables == 1,
            "coefficients are for structure factors that are the same in all channels");
    require(static_cast<Int64>(counts.shape(0)) == n && static_cast<Int64>(index.shape(0)) == n &&
                static_cast<Int64>(value.shape(0)) == n && index.shape(1) == value.shape(1),
            "results as long as the pixels");
    check(pixels);
    const exafel::PixelList list{pixels.data(), n};
    const exafel::CoefficientLists lists{static_cast<int>(index.shape(1)), counts.data(), index.data(), value.data()};
    const nb::gil_scoped_release released;
    return over_list(n, threads, [&](Int64 begin, Int64 end) {
      return single ? EXAFEL_DISPATCH(bragg_coefficients, single_scene_, list, begin, end, lists)
                    : EXAFEL_DISPATCH(bragg_coefficients, double_scene_, list, begin, end, lists);
    });
  }

  // The scene as a GPU's kernels read it, with the device's pointers in place of the host's, in the order of
  // panels, directions, wave_numbers, channels, buckets, bases, blocks, jacobian, table.
  nb::bytes packed(const std::vector<std::uintptr_t> &pointers, bool single) const {
    require(pointers.size() == 9, "nine pointers");
    return single ? pack(single_scene_, pointers) : pack(double_scene_, pointers);
  }

  template <class Real>
  void device_photons(Output<Real, nb::ndim<1>> image) const {
    require(static_cast<Int64>(image.shape(0)) == n_pixels_, "the image must have as many pixels as the panels");
    exafel::device_photons(scene<Real>(), image.data());
  }

  template <class Real>
  void device_gradients(PixelArray pixels, Output<Real, nb::ndim<1>> photons,
                        Output<Real, nb::shape<exafel::n_variables, -1>> derivatives) const {
    const auto n = static_cast<Int64>(pixels.shape(0));
    require(double_scene_.jacobian != nullptr, "a scene without Jacobians has no gradients");
    require(static_cast<Int64>(photons.shape(0)) == n && static_cast<Int64>(derivatives.shape(1)) == n,
            "results as long as the pixels");
    check(pixels);
    exafel::device_gradients(scene<Real>(), pixels.data(), n, photons.data(), derivatives.data());
  }

  void factors(Image omega_p, Image cos_two_theta) const {
    require(
        static_cast<Int64>(omega_p.shape(0)) == n_pixels_ && static_cast<Int64>(cos_two_theta.shape(0)) == n_pixels_,
        "the results must have as many elements as the panels have pixels");
    const exafel::PixelFactors result{omega_p.data(), cos_two_theta.data()};
    const nb::gil_scoped_release released;
    EXAFEL_DISPATCH(pixel_factors, double_scene_, result);
  }

 private:
  template <class Real>
  const exafel::Scene<Real> &scene() const {
    if constexpr (std::is_same_v<Real, float>)
      return single_scene_;
    else
      return double_scene_;
  }

  template <class Real>
  static nb::bytes pack(exafel::Scene<Real> scene, const std::vector<std::uintptr_t> &pointers) {
    const auto set = [&](std::size_t i, auto *&field) {
      field = reinterpret_cast<std::remove_reference_t<decltype(field)>>(pointers[i]);
    };
    set(0, scene.panels);
    set(1, scene.directions);
    set(2, scene.channels.wave_numbers);
    set(3, scene.channels.offsets);
    scene.channels.weights = scene.channels.offsets + scene.channels.stride;
    scene.channels.slopes = scene.channels.weights + scene.channels.stride;
    set(4, scene.channels.buckets);
    set(5, scene.channels.bases);
    set(6, scene.blocks);
    set(7, scene.jacobian);
    set(8, scene.table.values);
    return nb::bytes(reinterpret_cast<const char *>(&scene), sizeof scene);
  }

  void check(const PixelArray &pixels) const {
    for (std::size_t i = 0; i < pixels.shape(0); ++i) {
      const std::int32_t *where = pixels.data() + 3 * i;
      require(where[0] >= 0 && where[0] < double_scene_.n_panels, "a pixel's panel is not there");
      const double *numbers = double_scene_.panels + static_cast<Int64>(where[0]) * exafel::panel_numbers;
      require(where[1] >= 0 && where[1] < numbers[11] && where[2] >= 0 && where[2] < numbers[12],
              "a pixel is not on its panel");
    }
  }

  template <class Work>
  static Int64 over_list(Int64 n, int threads, const Work &work) {
    constexpr Int64 chunk = 1024;
    std::atomic<Int64> terms{0};
    parallel_for((n + chunk - 1) / chunk, threads,
                 [&](Int64 i) { terms += work(i * chunk, std::min(n, (i + 1) * chunk)); });
    return terms;
  }

  template <class Real>
  static exafel::WindowMarks windows(const exafel::Scene<Real> &scene, int threads) {
    const Int64 n = scene.table.n[0], parts = std::min<Int64>(std::max(threads, 1), n);
    std::vector<exafel::WindowMarks> marks(static_cast<std::size_t>(parts),
                                           exafel::WindowMarks(scene.panels, scene.n_panels));
    parallel_for(parts, threads, [&](Int64 i) {
      exafel::mark_windows(scene, n * i / parts, n * (i + 1) / parts, marks[static_cast<std::size_t>(i)]);
    });
    for (std::size_t i = 1; i < marks.size(); ++i)
      for (std::size_t k = 0; k < marks[0].marks.size(); ++k) marks[0].marks[k] |= marks[i].marks[k];
    return std::move(marks[0]);
  }

  template <class Real>
  Int64 photons(const exafel::Scene<Real> &scene, double *image, bool all_pixels, int threads) const {
    exafel::WindowMarks marks(nullptr, 0);
    if (!all_pixels) marks = windows(scene, threads);
    constexpr int chunk = 16;
    struct Rows {
      int panel, slow0, slow1;
    };
    std::vector<Rows> work;
    for (int panel = 0; panel < scene.n_panels; ++panel) {
      const int n_slow = static_cast<int>(scene.panels[static_cast<Int64>(panel) * exafel::panel_numbers + 12]);
      for (int slow = 0; slow < n_slow; slow += chunk) work.push_back({panel, slow, std::min(slow + chunk, n_slow)});
    }
    std::atomic<Int64> terms{0};
    parallel_for(static_cast<Int64>(work.size()), threads, [&](Int64 i) {
      const Rows &part = work[static_cast<std::size_t>(i)];
      const auto panel = static_cast<std::size_t>(part.panel);
      const exafel::PixelRows rows{part.panel, part.slow0, part.slow1,
                                   all_pixels ? nullptr : marks.marks.data() + marks.first[panel]};
      terms += EXAFEL_DISPATCH(bragg_rows, scene, rows, image + first_pixel_[panel]);
    });
    return terms;
  }

  using Held = nb::ndarray<nb::ro>;
  template <class A>
  static Held keep(const A &array) {
    return Held(array);
  }

  std::vector<Held> held_;
  std::vector<float> single_, single_bases_;
  std::vector<Int64> first_pixel_;
  Int64 n_pixels_ = 0;
  exafel::Scene<double> double_scene_{};
  exafel::Scene<float> single_scene_{};
};

// Bases of mosaic blocks and their derivatives by turns (radians), cell (angstrom, degrees) and spread (radians).
void crystal_blocks(Vector turns, Doubles<nb::shape<3, 3>> orientation, Doubles<nb::shape<6>> cell, Vector spread,
                    Doubles<nb::shape<-1, 3>> axes, Output<double, nb::shape<-1, 3, 3>> blocks,
                    Output<double, nb::shape<-1, 3, 3, exafel::n_basis_variables>> jacobian) {
  using namespace exafel::baseline;
  using T = Dual<double, exafel::n_basis_variables>;
  require(blocks.shape(0) == axes.shape(0) && jacobian.shape(0) == axes.shape(0), "as many results as axes");
  T angles[3], cells[6], spreads[3];
  for (int i = 0; i < 3; ++i) {
    angles[i] = T::variable(turns.data()[i], i);
    cells[i] = T::variable(cell.data()[i], 3 + i);
    cells[3 + i] = T::variable(cell.data()[3 + i] * pi / 180, 6 + i, pi / 180);
    spreads[i] = T::variable(spread.data()[i], 9 + i);
  }
  const Mat3<T> start = mat3<T>(orientation.data());
  for (std::size_t m = 0; m < axes.shape(0); ++m) {
    const Mat3<T> basis = block_basis(angles, start, cells, spreads, axes.data() + 3 * m);
    for (int i = 0; i < 3; ++i) {
      const T row[3] = {basis.rows[i].x, basis.rows[i].y, basis.rows[i].z};
      for (int j = 0; j < 3; ++j) {
        const std::size_t at = 9 * m + static_cast<std::size_t>(3 * i + j);
        blocks.data()[at] = row[j].v;
        std::copy_n(row[j].d, exafel::n_basis_variables, jacobian.data() + at * exafel::n_basis_variables);
      }
    }
  }
}

double shape_limit(int shape, double cut) {
  return exafel::baseline::shape_limit(static_cast<exafel::Shape>(shape), cut);
}

}  // namespace

void bind_bragg(nb::module_ &m) {
  nb::class_<HostScene>(m, "BraggScene", "What a shot's pixels are computed from.")
      .def(nb::init<Doubles<nb::shape<-1, exafel::panel_numbers>>, Doubles<nb::shape<-1, exafel::direction_numbers>>,
                    Vector, Vector, double, Doubles<nb::ndim<1>>, double, Doubles<nb::ndim<2>>,
                    Array<std::int32_t, nb::ndim<1>>, Doubles<nb::ndim<2>>, Doubles<nb::shape<-1, 3, 3>>,
                    Doubles<nb::shape<-1, 3, 3, exafel::n_basis_variables>>, Doubles<nb::shape<3, 3>>, Vector, Vector,
                    Doubles<nb::ndim<4>>, Array<std::int64_t, nb::shape<3>>, int, double, int, int, double>(),
           nb::arg("panels"), nb::arg("directions"), nb::arg("beam"), nb::arg("polarization_axis"),
           nb::arg("polarization"), nb::arg("wave_numbers"), nb::arg("centre"), nb::arg("channels"), nb::arg("buckets"),
           nb::arg("bases"), nb::arg("blocks"), nb::arg("jacobian"), nb::arg("mean_block"), nb::arg("block_slack"),
           nb::arg("n_cells"), nb::arg("table"), nb::arg("first_hkl"), nb::arg("shape"), nb::arg("scale"),
           nb::arg("oversample"), nb::arg("n_layers"), nb::arg("limit"))
      .def("add_photons", &HostScene::add_photons, nb::arg("image").noconvert(), nb::arg("all_pixels"),
           nb::arg("single"), nb::arg("threads"),
           "Add the photons of all pixels to `image`; returns the number of terms computed.")
      .def("gradients", &HostScene::gradients, nb::arg("pixels"), nb::arg("photons").noconvert(),
           nb::arg("derivatives").noconvert(), nb::arg("single"), nb::arg("threads"),
           "Fill photons of listed pixels and their derivatives.")
      .def("coefficients", &HostScene::coefficients, nb::arg("pixels"), nb::arg("counts").noconvert(),
           nb::arg("index").noconvert(), nb::arg("value").noconvert(), nb::arg("single"), nb::arg("threads"),
           "Fill, for listed pixels, the photons for each unit of |F|^2 by reflection.")
      .def("packed", &HostScene::packed, nb::arg("pointers"), nb::arg("single"),
           "The scene as a GPU's kernels read it, with these pointers to the device's arrays.")
      .def("device_photons", &HostScene::device_photons<double>, nb::arg("image").noconvert(),
           "What the threads of a GPU would add to `image`, done on the host.")
      .def("device_photons", &HostScene::device_photons<float>, nb::arg("image").noconvert())
      .def("device_gradients", &HostScene::device_gradients<double>, nb::arg("pixels"), nb::arg("photons").noconvert(),
           nb::arg("derivatives").noconvert(), "What the threads of a GPU would fill, done on the host.")
      .def("device_gradients", &HostScene::device_gradients<float>, nb::arg("pixels"), nb::arg("photons").noconvert(),
           nb::arg("derivatives").noconvert())
      .def("pixel_factors", &HostScene::factors, nb::arg("omega_p").noconvert(), nb::arg("cos_two_theta").noconvert(),
           "Fill solid angle times polarization factor, and the cosine of the scattering angle, of each pixel's "
           "centre.");
  m.def("crystal_blocks", &crystal_blocks, nb::arg("turns"), nb::arg("orientation"), nb::arg("cell"), nb::arg("spread"),
        nb::arg("axes"), nb::arg("blocks").noconvert(), nb::arg("jacobian").noconvert(),
        "Fill the bases of mosaic blocks and their derivatives by turns, cell and spread.");
  m.def("shape_limit", &shape_limit, nb::arg("shape"), nb::arg("cut"),
        "|N dh|^2 beyond which a shape's lattice factor is below exp(-cut).");
}
