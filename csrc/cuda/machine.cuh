// cuda/machine.cuh: what kernels use of the machine, a GPU or its emulation: launches, shared memory, half precisions,
// the matrix unit, sums over a warp.
#pragma once

#include <cstdint>

#ifdef LEAFKIT_EMULATED
#include "cuda/emulation.h"
#else
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#endif

#include "cuda/api.h"
#include "cuda/halves.cuh"

namespace leafkit::cuda {

constexpr unsigned kWholeWarp = 0xffffffffu;

#ifdef LEAFKIT_EMULATED

inline void* shared_memory() { return emulated::shared_memory(); }

template <class... Arguments, class... Given>
void launch(void (*kernel)(Arguments...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream, Given... given) {
  emulated::run(grid, block, shared_bytes, [=] { kernel(static_cast<Arguments>(given)...); });
}

#else

__device__ __forceinline__ void* shared_memory() {
  extern __shared__ __align__(16) unsigned char leafkit_shared_memory[];
  return leafkit_shared_memory;
}

inline void require(cudaError_t state, const char* what) {
  if (state == cudaSuccess) return;
  cudaGetLastError();  // told here, and not by the next launch again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(state) + " (" + cudaGetErrorName(state) + ")");
}

// Queues the kernel on the stream; nothing waits.
template <class... Arguments, class... Given>
void launch(void (*kernel)(Arguments...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream stream,
            Given... given) {
  constexpr std::size_t kWithoutAsking = 48 * 1024;
  if (shared_bytes > kWithoutAsking)
    require(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)),
            ("a kernel asks for " + std::to_string(shared_bytes) + " bytes of shared memory").c_str());
  // clang-format off
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(static_cast<Arguments>(given)...);
  // clang-format on
  require(cudaGetLastError(), "a kernel could not be launched");
}

#endif

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x / 32); }

// The sum over the warp, the same bits in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(kWholeWarp, value, other);
  return value;
}

__device__ __forceinline__ float warp_max(float value) {
  for (int other = 16; other > 0; other /= 2) {
    const float there = __shfl_xor_sync(kWholeWarp, value, other);
    value = there > value ? there : value;
  }
  return value;
}

}  // namespace leafkit::cuda
