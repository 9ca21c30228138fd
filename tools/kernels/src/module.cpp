// The Python module exafel._kernels: every chapter binds its functions in a file of its own.
#include <nanobind/nanobind.h>

#include "dispatch.hpp"

namespace nb = nanobind;

void bind_bragg(nb::module_ &m);
void bind_indexing(nb::module_ &m);
void bind_integration(nb::module_ &m);
void bind_io(nb::module_ &m);
void bind_merging(nb::module_ &m);
void bind_postrefine(nb::module_ &m);
void bind_spotfinding(nb::module_ &m);

NB_MODULE(_kernels, m) {
  m.doc() = "Compiled kernels of ExaFEL Workflows.";
  m.def("isa", [] { return exafel::isa_name(); }, "Name of the instruction set in use: baseline, avx2 or avx512.");
  bind_bragg(m);
  bind_indexing(m);
  bind_integration(m);
  bind_io(m);
  bind_merging(m);
  bind_postrefine(m);
  bind_spotfinding(m);
}
