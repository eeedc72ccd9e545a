// cuda/halves.cuh: bfloat16, float16 and 8-bit values as kernels see them: bits in memory, float32 in arithmetic.
#pragma once

#include <cstdint>

#ifdef LEAFKIT_EMULATED
#include "base/halves.h"
#endif

namespace leafkit::cuda {

struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

// Rounded to the nearest, ties to even; NaN stays NaN.
template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
__device__ __forceinline__ float to_float(float value) { return value; }

#ifdef LEAFKIT_EMULATED

inline float to_float(BFloat16 value) { return from_bfloat16(value.bits); }
inline float to_float(Float16 value) { return from_float16(value.bits); }
template <>
inline BFloat16 from_float<BFloat16>(float value) {
  return {to_bfloat16(value)};
}
template <>
inline Float16 from_float<Float16>(float value) {
  return {to_float16(value)};
}

#else

__device__ __forceinline__ float to_float(BFloat16 value) { return __bfloat162float(__ushort_as_bfloat16(value.bits)); }
__device__ __forceinline__ float to_float(Float16 value) { return __half2float(__ushort_as_half(value.bits)); }
template <>
__device__ __forceinline__ BFloat16 from_float<BFloat16>(float value) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}
template <>
__device__ __forceinline__ Float16 from_float<Float16>(float value) {
  return {__half_as_ushort(__float2half_rn(value))};
}

#endif

}  // namespace leafkit::cuda
