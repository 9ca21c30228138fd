// What a GPU's threads do, done by the host one after the other: to test it, and to compare with.
#pragma once
#include "exafel/bragg_scene.hpp"

namespace exafel {

template <class Real>
void device_photons(const Scene<Real> &scene, Real *image);
template <class Real>
void device_gradients(const Scene<Real> &scene, const int *where, Int64 n, Real *photons, Real *derivatives);
template <class Real>
void device_coefficients(const Scene<Real> &scene, const int *where, Int64 n, int room, int *counts, int *index,
                         double *value);

}  // namespace exafel
