// cuda/alignment.cuh: losses between a student's row and its teacher's, at any prefixes, in two passes over a row of
// which the second finds it in the cache. A warp has a row.
#pragma once

#include "cuda/api.h"

namespace leafkit::cuda {

constexpr int kRowsABlock = 8;

template <class T>
constexpr int kInWord = 16 / static_cast<int>(sizeof(T));  // values of a 16-byte word

// Calls f(index, student, teacher, in_word) for this lane's values of the stretch from first to last. Words are read
// whole where rows begin at whole words; a word that a boundary cuts is read by both of its stretches.
template <class T, class F>
__device__ __forceinline__ void over_stretch(const T* s, const T* t, std::int64_t first, std::int64_t last, bool words,
                                             const F& f) {
  constexpr int kValues = kInWord<T>;
  if (!words) {
    for (std::int64_t i = first + lane_index(); i < last; i += 32) f(i, 1, s + i, t + i);
    return;
  }
  for (std::int64_t word = first / kValues + lane_index(); word * kValues < last; word += 32) {
    union Word {
      int4 whole;
      T values[kValues];
    } a, b;
    a.whole = reinterpret_cast<const int4*>(s)[word];
    b.whole = reinterpret_cast<const int4*>(t)[word];
    f(word * kValues, kValues, a.values, b.values);
  }
}

struct PrefixLoss {
  double value, apart, along;  // the gradient is apart (s - t) + along s
};

// 1 - cos = (|s - t|^2 - (|s| - |t|)^2) / (2 |s| |t|): as on the CPU (csrc/losses/losses.cpp).
__device__ inline PrefixLoss cosine_loss(double difference, double student, double teacher) {
  const double norm_s = sqrt(student), norm_t = sqrt(teacher);
  if (norm_s == 0 || norm_t == 0) return {1, 0, 0};
  const double apart = 1 / (norm_s * norm_t), longer = norm_t - norm_s;
  const double value = 0.5 * apart * (difference - longer * longer);
  return {value, apart, apart * (longer - value * norm_t) / norm_s};
}

__device__ inline PrefixLoss root_of(double square, const PrefixLoss& of) {
  const double value = sqrt(square > 0 ? square : 0.0);
  if (!(square > 0) && square == square) return {0, 0, 0};
  return {square == square ? value : square, of.apart / value, of.along / value};
}

__device__ inline PrefixLoss prefix_loss(Metric metric, bool unit, double difference, double student, double teacher) {
  if (metric == Metric::cosine) return cosine_loss(difference, student, teacher);
  if (metric == Metric::huber) return {difference, 1, 0};
  if (!unit) {
    if (metric == Metric::squared_l2) return {difference, 2, 0};
    return root_of(difference, {0, 1, 0});
  }
  PrefixLoss of = cosine_loss(difference, student, teacher);  // |a - b|^2 = 2 (1 - cos); zeros stay zeros
  if (student == 0 || teacher == 0) of.value = student == 0 && teacher == 0 ? 0 : 0.5;
  if (metric == Metric::squared_l2) return {2 * of.value, 2 * of.apart, 2 * of.along};
  return root_of(2 * of.value, of);
}

__device__ __forceinline__ float clamped(float value, float delta) {
  return value > delta ? delta : value < -delta ? -delta : value;
}

// Shared memory of a warp: three sums and two slopes a prefix.
constexpr std::size_t alignment_shared(int count) { return std::size_t{kRowsABlock} * 3 * count * sizeof(double); }

template <class T>
__global__ void __launch_bounds__(32 * kRowsABlock)
    alignment_rows(Alignment of, bool words, T* gradient, double* values) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowsABlock + warp_index();
  const std::int64_t rows = of.student.rows, dim = of.student.dim;
  if (row >= rows) return;  // the whole warp; nothing below waits for other warps
  const T* s = static_cast<const T*>(of.student.data) + row * dim;
  const T* t = static_cast<const T*>(of.teacher.data) + row * dim;
  const bool huber = of.metric == Metric::huber;
  double* sums = static_cast<double*>(shared_memory()) + warp_index() * 3 * of.count;
  double difference = 0, student = 0, teacher = 0;  // of the prefix up to here
  for (int k = 0; k < of.count; ++k) {
    const std::int64_t first = k == 0 ? 0 : of.widths[k - 1], last = of.widths[k];
    float apart_sum = 0, square_s = 0, square_t = 0;
    over_stretch(s, t, first, last, words, [&](std::int64_t index, int count, const T* a, const T* b) {
      for (int i = 0; i < count; ++i) {
        if (index + i < first || index + i >= last) continue;
        const float x = to_float(a[i]), y = to_float(b[i]), apart = x - y;
        if (huber) {  // |x| up to delta: x^2 / 2; beyond: delta (|x| - delta / 2)
          const float within = clamped(apart, of.delta);
          apart_sum += within * (apart - 0.5f * within);
        } else {
          apart_sum += apart * apart;
          square_s += x * x;
          square_t += y * y;
        }
      }
    });
    difference += static_cast<double>(warp_sum(apart_sum));
    student += static_cast<double>(warp_sum(square_s));
    teacher += static_cast<double>(warp_sum(square_t));
    if (lane_index() == 0) sums[3 * k] = difference, sums[3 * k + 1] = student, sums[3 * k + 2] = teacher;
  }
  __syncwarp();
  if (lane_index() == 0) {
    const double weight = of.weights == nullptr ? 1.0 : static_cast<double>(of.weights[row]);
    double value = 0, apart = 0, along = 0;
    for (int k = of.count; k-- > 0;) {  // a stretch is part of its prefix and of all longer ones
      const bool unit = of.unit_prefixes && of.widths[k] < dim;
      const PrefixLoss loss = prefix_loss(of.metric, unit, sums[3 * k], sums[3 * k + 1], sums[3 * k + 2]);
      value += of.shares[k] * loss.value;
      apart += of.shares[k] * loss.apart;
      along += of.shares[k] * loss.along;
      sums[3 * k] = apart * weight / static_cast<double>(rows);
      sums[3 * k + 1] = along * weight / static_cast<double>(rows);
    }
    values[row] = weight * value;
  }
  __syncwarp();
  T* out = gradient + row * dim;
  for (int k = 0; k <= of.count; ++k) {  // behind the last prefix the gradient is 0
    const std::int64_t first = k == 0 ? 0 : of.widths[k - 1], last = k == of.count ? dim : of.widths[k];
    const float apart_slope = k == of.count ? 0.0f : static_cast<float>(sums[3 * k]);
    const float along_slope = k == of.count ? 0.0f : static_cast<float>(sums[3 * k + 1]);
    over_stretch(s, t, first, last, words, [&](std::int64_t index, int count, const T* a, const T* b) {
      union Word {
        int4 whole;
        T values[kInWord<T>];
      } made;
      for (int i = 0; i < count; ++i) {
        const float x = to_float(a[i]), apart = x - to_float(b[i]);
        made.values[i] = from_float<T>(k == of.count ? 0.0f
                                                     : (huber ? clamped(apart, of.delta) : apart) * apart_slope +
                                                           x * along_slope);
      }
      if (count > 1 && index >= first && index + count <= last) {
        *reinterpret_cast<int4*>(out + index) = made.whole;
        return;
      }
      for (int i = 0; i < count; ++i)
        if (index + i >= first && index + i < last) out[index + i] = made.values[i];
    });
  }
}

}  // namespace leafkit::cuda
