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

// |score - q.d| of one query and any document of a group is at most this (infinite or NaN: nothing is known).
inline float error_bound(Rounding rounding, Distance query, Distance group) {
  // query.norm is |q|, and |q'| <= |q| + |q - q'|
  const float prepared = query.norm + query.residual;
  const float bound = query.norm * group.residual + query.residual * group.norm +
                      rounding.relative * prepared * group.norm + rounding.absolute * (1 + prepared + group.norm);
  return bound * (1 + 0x1p-20f);  // this line's and the last one's own roundings
}

// |d| at most, from its squares summed in float32 in any order.
inline float norm_of_squares(float squares, std::int64_t dim) {
  const float terms = static_cast<float>(dim);
  return std::sqrt(squares * (1 + (terms + 8) * 0x1p-23f) + terms * 0x1p-124f);
}

// Distances of a row that was rounded to bfloat16 (or not: float32), from |d'|^2 summed in float32. A rounding moves a
// value by at most 2^-8 of what it becomes; what is denormal is within the absolute term of `rounding_of`.
inline Distance distance_of_squares(Type type, float squares, std::int64_t dim) {
  const float norm = norm_of_squares(squares, dim);
  return {type == Type::bfloat16 ? norm * 0x1p-8f : 0.0f, norm};
}

// The threshold that no document below `least` minus the error has a chance above; minus infinity if nothing is known.
inline float threshold_below(float least, float error) {
  const float low = least - error;
  return low - 0x1p-21f * (std::abs(least) + error);  // NaN lets everything pass
}

}  // namespace leafkit
