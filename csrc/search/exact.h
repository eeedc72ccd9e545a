// search/exact.h: inner products rounded once.
#pragma once

#include <cstdint>

#include "search/tiles.h"

namespace leafkit {

// The inner product of two float32 vectors, their products and sum exact, rounded to float64. What is not finite is
// what float64 arithmetic makes of it.
double exact_dot(const Kernels& kernels, const float* a, const float* b, std::int64_t dim);

}  // namespace leafkit
