// search/bounds.h: how far a tile's score can be from the exact inner product. Derived in docs/kernels.md.
#pragma once

#include <cmath>
#include <limits>

#include "search/pack.h"
#include "search/tiles.h"

namespace leafkit {

// Roundings of a scan's own sum, as a factor of |q'||d'| (no sum of products' magnitudes is larger), and what
// flushing of denormals to zero may lose besides, as a factor of 1 + |q'| + |d'|.
struct Rounding {
  float relative;
  float absolute;
};

inline Rounding rounding_of(Type type, std::int64_t dim) {
  const float terms = static_cast<float>(dim);
  const float flushed = terms * 0x1p-124f;
  switch (type) {
    case Type::int8:  // the sum is exact; it is converted and multiplied by two scales
      return {4 * 0x1p-24f, flushed};
    case Type::bfloat16:  // one vdpbf16ps may round twice
      return {(2 * terms + 8) * 0x1p-24f, flushed};
    default:
      return {(terms + 8) * 0x1p-24f, flushed};
  }
}

// |score - q.d| of one query and any document of a group is at most this (infinite or NaN: nothing is known): a sum of
// the group's distances, weighed by what belongs to the query.
struct ErrorOf {
  float residual, norm, one;

  float operator()(Distance group) const {
    return (residual * group.residual + norm * group.norm + one) * (1 + 0x1p-20f);  // for the roundings of these lines
  }
};

inline ErrorOf error_of(Rounding rounding, Distance query) {
  const float prepared = query.norm + query.residual;  // |q'| <= |q| + |q - q'|, query.norm is |q|
  return {query.norm, query.residual + rounding.relative * prepared + rounding.absolute,
          rounding.absolute * (1 + prepared)};
}

// A length at most, from its squares summed in float32 in any order.
inline float length_of_squares(float squares, std::int64_t dim) {
  const float terms = static_cast<float>(dim);
  return std::sqrt(squares * (1 + (terms + 8) * 0x1p-23f) + terms * 0x1p-124f);
}

// Distances of a row from what `encode` summed. A difference d - d' was rounded once, and d' itself where it is a code
// times a scale; float32 is the row itself. What is not a number is infinite.
inline Distance distance_of(Type type, const Encoded& one, std::int64_t dim) {
  const float norm = length_of_squares(one.norm, dim);
  const float residual = type == Type::float32 ? 0 : length_of_squares(one.residual, dim) + norm * 0x1p-22f;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (!(residual < kInfinity) || !(norm < kInfinity)) return {kInfinity, kInfinity};
  return {residual, norm};
}

// The threshold that no document below `least` minus the error has a chance above; minus infinity if nothing is known.
inline float threshold_below(float least, float error) {
  const float low = least - error;
  return low - 0x1p-21f * (std::abs(least) + error);  // NaN lets everything pass
}

}  // namespace leafkit
