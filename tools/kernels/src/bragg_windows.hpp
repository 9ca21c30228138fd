// Which pixels lie near a reflection.
#pragma once
#include <vector>

#include "bragg_host.hpp"

namespace exafel {

// Marks of all groups of pixels, panel after panel, row after row.
struct WindowMarks {
  std::vector<unsigned char> marks;
  std::vector<Int64> first;  // where each panel's begin

  explicit WindowMarks(const double *panels, int n_panels);
};

// Marks, in `marks`, the groups that hold all that reflections with index h from h0 to h1 - 1 of the table bring. Of
// all mosaic blocks the mean one is looked at, and its spots are widened by how far the others turn.
template <class Real>
void mark_windows(const Scene<Real> &scene, Int64 h0, Int64 h1, WindowMarks &marks);

}  // namespace exafel
