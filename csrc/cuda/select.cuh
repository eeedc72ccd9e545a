// cuda/select.cuh: the best of many scores. A key orders a score and its row in one number: better is larger.
#pragma once

#include "cuda/machine.cuh"

namespace leafkit::cuda {

using Key = std::uint64_t;
constexpr Key kNothing = 0;  // below every key of a row
constexpr Key kAboveAll = ~Key{0};

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

// Who does a thing together: a block, or each warp for itself.
struct ByBlock {
  __device__ static __forceinline__ int index() { return static_cast<int>(threadIdx.x); }
  __device__ static __forceinline__ int size() { return static_cast<int>(blockDim.x); }
  __device__ static __forceinline__ void wait() { __syncthreads(); }
};
struct ByWarp {
  __device__ static __forceinline__ int index() { return lane_index(); }
  __device__ static __forceinline__ int size() { return 32; }
  __device__ static __forceinline__ void wait() { __syncwarp(); }
};

// Sorts a power of two of keys, best first (bitonic): the same steps whatever the keys.
template <class By, class K>
__device__ void sort_keys(K* keys, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int apart = size / 2; apart > 0; apart /= 2) {
      By::wait();
      for (int pair = By::index(); pair < count / 2; pair += By::size()) {
        const int low = 2 * pair - (pair & (apart - 1)), high = low + apart;
        const bool falling = (low & size) == 0;
        const K a = keys[low], b = keys[high];
        if (better(b, a) == falling) keys[low] = b, keys[high] = a;
      }
    }
  }
  By::wait();
}

// Sorts the `held` keys of a list in `sorted`, a place for the next power of two, and cuts the list to its best k.
// `sorted` may be the list itself.
template <class By>
__device__ void cut(Key* list, int held, int k, Key* sorted, int* count, Key* threshold) {
  int places = 2;
  while (places < held) places *= 2;
  for (int i = By::index(); i < places; i += By::size()) sorted[i] = i < held ? list[i] : kNothing;
  sort_keys<By>(sorted, places);
  const int kept = held < k ? held : k;
  if (list != sorted)
    for (int i = By::index(); i < kept; i += By::size()) list[i] = sorted[i];
  if (By::index() == 0) {
    *count = kept;
    if (kept == k) *threshold = sorted[kept - 1];
  }
  By::wait();
}

}  // namespace leafkit::cuda
