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

// One instruction each, without the toolkit's headers for them, which need those of another package.
__device__ __forceinline__ float to_float(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
__device__ __forceinline__ float to_float(Float16 value) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
  return out;
}
template <>
__device__ __forceinline__ BFloat16 from_float<BFloat16>(float value) {
  BFloat16 out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
}
template <>
__device__ __forceinline__ Float16 from_float<Float16>(float value) {
  Float16 out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
}

#endif

}  // namespace leafkit::cuda
