// cuda/quantize.cuh: rows in the form of a type, a warp a row. The codes are the CPU's (csrc/search/encode.h).
#pragma once

#include "cuda/machine.cuh"

namespace leafkit::cuda {

constexpr int kQuantizeThreads = 256;

// Whole steps of a scale, at most 127 either way, NaN as 0: to the nearest, ties to even.
__device__ __forceinline__ int steps_of_scale(float value, float scale) {
  float steps = value / scale;
  steps = steps == steps ? steps : 0.0f;
  steps = steps > 127.0f ? 127.0f : steps < -127.0f ? -127.0f : steps;
  return static_cast<int>(rintf(steps));
}

// The largest magnitude over 127, or 1 where that is no scale.
template <class T>
__device__ float own_scale(const T* row, std::int64_t dim) {
  float most = 0;
  bool finite = true;
  for (std::int64_t i = lane_index(); i < dim; i += 32) {
    const float magnitude = fabsf(to_float(row[i]));
    finite = finite && magnitude < INFINITY;
    most = magnitude > most ? magnitude : most;
  }
  const float scale = warp_max(most) / 127.0f;
  return __ballot_sync(kWholeWarp, !finite) != 0 || !(scale > 0) ? 1.0f : scale;
}

// 4-byte words of a row of codes; what lies behind the last value is 0.
template <class T>
__global__ void __launch_bounds__(kQuantizeThreads)
    quantize_rows(const T* from, std::int64_t rows, std::int64_t dim, Type to, const float* dim_scales,
                  std::int64_t stride, unsigned char* codes, float* scales) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kQuantizeThreads / 32) + warp_index();
  if (row >= rows) return;
  const T* values = from + row * dim;
  auto* out = reinterpret_cast<unsigned*>(codes + row * stride);
  const float scale = to == Type::int8 && dim_scales == nullptr ? own_scale(values, dim) : 1.0f;
  if (to == Type::int8 && lane_index() == 0) scales[row] = scale;
  const int in_word = to == Type::binary ? 32 : to == Type::int8 ? 4 : to == Type::float32 ? 1 : 2;
  for (std::int64_t word = lane_index(); word < stride / 4; word += 32) {
    unsigned bits = 0;
    for (int i = 0; i < in_word; ++i) {
      const std::int64_t at = word * in_word + i;
      if (at >= dim) break;
      const float value = to_float(values[at]);
      if (to == Type::binary)
        bits |= static_cast<unsigned>(value > 0) << i;
      else if (to == Type::int8)
        bits |= (static_cast<unsigned>(steps_of_scale(value, dim_scales == nullptr ? scale : dim_scales[at])) & 0xffu)
                << (8 * i);
      else if (to == Type::bfloat16)
        bits |= static_cast<unsigned>(from_float<BFloat16>(value).bits) << (16 * i);
      else if (to == Type::float16)
        bits |= static_cast<unsigned>(from_float<Float16>(value).bits) << (16 * i);
      else
        bits = __float_as_uint(value);
    }
    out[word] = bits;
  }
}

}  // namespace leafkit::cuda
