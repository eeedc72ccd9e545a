// cuda/select.cuh: the best of many scores. A key orders a score and its row in one number: better is larger.
#pragma once

#include "cuda/machine.cuh"

namespace leafkit::cuda {

using Key = std::uint64_t;
constexpr Key kNothing = 0;  // below every key of a row

// Numbers in their order, -inf below them, NaN last; equal scores by row, the first of them best.
__device__ __forceinline__ Key key_of(float score, std::uint32_t row) {
  const std::uint32_t bits = __float_as_uint(score);
  std::uint32_t order = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  if (score != score) order = 1;
  if (score == 0.0f) order = 0x80000000u;  // both zeros are one
  return (static_cast<Key>(order) << 32) | (0xffffffffu - row);
}
__device__ __forceinline__ std::uint32_t row_of_key(Key key) { return 0xffffffffu - static_cast<std::uint32_t>(key); }
__device__ __forceinline__ float score_of_key(Key key) {
  const auto order = static_cast<std::uint32_t>(key >> 32);
  if (order == 1) return __uint_as_float(0x7fc00000u);
  return __uint_as_float((order >> 31) != 0 ? order & 0x7fffffffu : ~order);
}

// A score that was formed in float64.
struct WideKey {
  std::uint64_t order;
  std::uint32_t row;
};
__device__ __forceinline__ bool better(Key a, Key b) { return a > b; }
__device__ __forceinline__ bool better(const WideKey& a, const WideKey& b) {
  return a.order != b.order ? a.order > b.order : a.row < b.row;
}
__device__ __forceinline__ std::uint64_t order_of(double score) {
  union {
    double value;
    std::uint64_t bits;
  } of;
  of.value = score;
  if (score != score) return 1;
  if (score == 0) return 0x8000000000000000u;
  return (of.bits >> 63) != 0 ? ~of.bits : of.bits | 0x8000000000000000u;
}
__device__ __forceinline__ double score_of(std::uint64_t order) {
  union {
    double value;
    std::uint64_t bits;
  } of;
  of.bits = order == 1 ? 0x7ff8000000000000u : (order >> 63) != 0 ? order & 0x7fffffffffffffffu : ~order;
  return of.value;
}

// Sorts a power of two of keys, best first, by the whole block (bitonic): the same steps whatever the keys.
template <class K>
__device__ void sort_keys(K* keys, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int apart = size / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (int pair = static_cast<int>(threadIdx.x); pair < count / 2; pair += static_cast<int>(blockDim.x)) {
        const int low = 2 * pair - (pair & (apart - 1)), high = low + apart;
        const bool falling = (low & size) == 0;
        const K a = keys[low], b = keys[high];
        if (better(b, a) == falling) keys[low] = b, keys[high] = a;
      }
    }
  }
  __syncthreads();
}

}  // namespace leafkit::cuda
