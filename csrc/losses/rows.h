// losses/rows.h: the two passes over a row, written once; a level's file compiles them with its own flags.
#pragma once

#include "base/lanes.h"
#include "losses/levels.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

constexpr std::int64_t kAtOnce = 64 * kLanes;  // sums of no more values are float32, a lane at a time

[[gnu::always_inline]] inline Lanes some(const float* from, std::int64_t count) {
  float rest[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) rest[i] = from[i];
  return load(rest);
}

[[gnu::always_inline]] inline Lanes clamped(Lanes value, float delta) {
  value = value > delta ? all(delta) : value;
  return value < -delta ? all(-delta) : value;
}

template <bool Huber>
[[gnu::always_inline]] inline void sum_stretch(const float* s, const float* t, std::int64_t count, float delta,
                                               RowSums& out) {
  Lanes difference{}, square_s{}, square_t{}, product{};
  const auto take = [&](Lanes a, Lanes b) __attribute__((always_inline)) {
    const Lanes apart = a - b;
    if constexpr (Huber) {  // |x| up to delta: x^2 / 2; beyond: delta (|x| - delta / 2)
      const Lanes within = clamped(apart, delta);
      difference = fma(within, apart - 0.5f * within, difference);
    } else {
      difference = fma(apart, apart, difference);
      square_s = fma(a, a, square_s);
      square_t = fma(b, b, square_t);
      product = fma(a, b, product);
    }
  };
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) take(load(s + i), load(t + i));
  if (i < count) take(some(s + i, count - i), some(t + i, count - i));
  out.difference += sum(difference);
  out.student += sum(square_s);
  out.teacher += sum(square_t);
  out.product += sum(product);
}

template <bool Huber>
void sum_row(const float* s, const float* t, const std::int64_t* widths, std::int64_t count, float delta,
             RowSums* out) {
  std::int64_t first = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    RowSums sums{};
    for (; first < widths[k]; first += kAtOnce) {
      const std::int64_t left = widths[k] - first;
      sum_stretch<Huber>(s + first, t + first, left < kAtOnce ? left : kAtOnce, delta, sums);
    }
    first = widths[k];
    out[k] = sums;
  }
}

template <bool Huber>
void write_row(const float* s, const float* t, const std::int64_t* widths, std::int64_t count, const Slope* slopes,
               float delta, float* out) {
  std::int64_t i = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    const auto value = [&](Lanes a, Lanes b) __attribute__((always_inline)) {
      const Lanes apart = Huber ? clamped(a - b, delta) : a - b;
      return fma(apart, all(slopes[k].apart), fma(a, all(slopes[k].along), b * slopes[k].against));
    };
    for (; i + kLanes <= widths[k]; i += kLanes) store(out + i, value(load(s + i), load(t + i)));
    if (i < widths[k]) {
      float rest[kLanes];
      const std::int64_t left = widths[k] - i;
      store(rest, value(some(s + i, left), some(t + i, left)));
      for (std::int64_t j = 0; j < left; ++j) out[i + j] = rest[j];
      i = widths[k];
    }
  }
}

constexpr LossKernels loss_kernels() {
  return {{&sum_row<false>, &sum_row<true>}, {&write_row<false>, &write_row<true>}};
}

}  // namespace
}  // namespace leafkit
