// From a shape that is known when the program runs to code that was compiled for it.
#pragma once
#include "exafel/bragg_scene.hpp"

namespace exafel {
namespace EXAFEL_ISA {

template <Shape shape>
struct Constant {
  static constexpr Shape value = shape;
};

// Calls work(Constant<shape>) and returns its result.
template <class Work>
Int64 for_shape(Shape shape, const Work &work) {
  switch (shape) {
    case Shape::square:
      return work(Constant<Shape::square>());
    case Shape::round:
      return work(Constant<Shape::round>());
    case Shape::tophat:
      return work(Constant<Shape::tophat>());
    default:
      return work(Constant<Shape::gauss>());
  }
}

}  // namespace EXAFEL_ISA
}  // namespace exafel
