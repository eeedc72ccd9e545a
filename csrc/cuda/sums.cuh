// cuda/sums.cuh: sums over a block, in one order whatever runs first.
#pragma once

#include "cuda/machine.cuh"

namespace leafkit::cuda {

constexpr int kSumThreads = 1024;

// The sum of some doubles over a count, in one order whatever the count.
static __global__ void __launch_bounds__(kSumThreads)
    mean_of(const double* values, std::int64_t count, double scale, float* out) {
  double* sums = static_cast<double*>(shared_memory());
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += values[i];
  sum = warp_sum(sum);
  if (lane_index() == 0) sums[warp_index()] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += sums[warp];
    *out = static_cast<float>(total * scale);
  }
}

}  // namespace leafkit::cuda
