// cuda/emulation.h: the CUDA execution model on a CPU, for tests. A block's threads are fibers that run, one at a time
// and in a random order, until they reach a barrier or a warp's collective; so what lacks a barrier reads what is not
// written yet, or is written over before it is read. Found besides: barriers that some threads never reach or that are
// not the same one, collectives whose lanes, masks or places differ, launches beyond a device's limits. Buffers have
// their exact sizes, so that the address sanitizer sees what goes past them, and shared memory begins as NaN.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) int4 {
  int x, y, z, w;
};

namespace leafkit::emulated {

using Site = std::source_location;

struct Place {
  dim3 thread, block, block_size, grid_size;
};
// Where the running thread is.
const Place& here();
void* shared_memory();

// Waits for all threads of the block.
void barrier(const Site& site);
// Waits for the lanes of the mask; then `resolve` is called once with what each of them brought, null for the others.
using Resolve = void (*)(void* const (&brought)[32], unsigned mask);
void collective(unsigned mask, void* brought, Resolve resolve, const Site& site);
// Ends the launch with an error that names the thread.
[[noreturn]] void fail(const std::string& what, const Site& site);

void run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread);
// Decides the order of threads and blocks.
void set_seed(std::uint64_t seed);

template <class T>
struct Lane {
  T value, out;
  int source;
};

template <class T>
void exchange(void* const (&brought)[32], unsigned mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    auto& own = *static_cast<Lane<T>*>(brought[lane]);
    own.out = static_cast<Lane<T>*>(brought[own.source])->value;
  }
}

inline int lane_of_thread() { return static_cast<int>(here().thread.x % 32); }

template <class T>
T shuffle(unsigned mask, T value, int source, const Site& site) {
  if (source < 0 || source > 31 || !(mask >> source & 1u))
    fail("a shuffle reads lane " + std::to_string(source) + ", which is not in its mask", site);
  Lane<T> own{value, T{}, source};
  collective(mask, &own, &exchange<T>, site);
  return own.out;
}

struct Vote {
  bool value;
  unsigned out;
};
inline void count_votes(void* const (&brought)[32], unsigned mask) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1u) votes |= static_cast<unsigned>(static_cast<Vote*>(brought[lane])->value) << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1u) static_cast<Vote*>(brought[lane])->out = votes;
}
inline void nothing(void* const (&)[32], unsigned) {}

}  // namespace leafkit::emulated

#define threadIdx (::leafkit::emulated::here().thread)
#define blockIdx (::leafkit::emulated::here().block)
#define blockDim (::leafkit::emulated::here().block_size)
#define gridDim (::leafkit::emulated::here().grid_size)

inline void __syncthreads(std::source_location site = std::source_location::current()) {
  leafkit::emulated::barrier(site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, std::source_location site = std::source_location::current()) {
  leafkit::emulated::collective(mask, nullptr, &leafkit::emulated::nothing, site);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, std::source_location site = std::source_location::current()) {
  return leafkit::emulated::shuffle(mask, value, source, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other, std::source_location site = std::source_location::current()) {
  return leafkit::emulated::shuffle(mask, value, leafkit::emulated::lane_of_thread() ^ other, site);
}
inline unsigned __ballot_sync(unsigned mask, bool vote, std::source_location site = std::source_location::current()) {
  leafkit::emulated::Vote own{vote, 0};
  leafkit::emulated::collective(mask, &own, &leafkit::emulated::count_votes, site);
  return own.out;
}
inline int atomicAdd(int* to, int value) {
  const int before = *to;
  *to += value;
  return before;
}
inline int __popc(unsigned word) { return std::popcount(word); }
inline int __dp4a(int a, int b, int sum) {
  for (int shift = 0; shift < 32; shift += 8)
    sum += static_cast<int>(static_cast<std::int8_t>(a >> shift)) * static_cast<std::int8_t>(b >> shift);
  return sum;
}
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
