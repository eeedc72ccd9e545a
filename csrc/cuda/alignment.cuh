// cuda/alignment.cuh: losses between a student's row and its teacher's, at any prefixes, in two passes over a row of
// which the second finds it in the cache. A warp has a row.
#pragma once

#include "cuda/machine.cuh"

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

// As on the CPU (csrc/losses/losses.cpp), which says why.
struct PrefixLoss {
  double value, apart, along, against;  // the gradient is apart (s - t) + along s + against t
};
// Of a prefix: |s - t|^2 (or what Huber makes of it), s.s, t.t, s.t.
struct PrefixSums {
  double difference, student, teacher, product;
};

__device__ inline PrefixLoss cosine_loss(const PrefixSums& sums) {
  const double norm_s = sqrt(sums.student), norm_t = sqrt(sums.teacher);
  if (norm_s == 0 || norm_t == 0) return {1, 0, 0, 0};
  const double over = 1 / norm_s / norm_t;
  if (norm_s > 2 * norm_t || norm_t > 2 * norm_s) {
    const double cosine = sums.product * over;
    return {1 - cosine, 0, cosine / norm_s / norm_s, -over};
  }
  const double longer = norm_t - norm_s, value = 0.5 * over * (sums.difference - longer * longer);
  return {value, over, over * (longer - value * norm_t) / norm_s, 0};
}

__device__ inline PrefixLoss root_of(double square, const PrefixLoss& of) {
  const double value = square < 0 ? 0.0 : sqrt(square);
  if (value == 0) return {0, 0, 0, 0};
  return {value, of.apart / value, of.along / value, of.against / value};
}

__device__ inline PrefixLoss prefix_loss(Metric metric, bool unit, const PrefixSums& sums) {
  if (metric == Metric::cosine) return cosine_loss(sums);
  if (metric == Metric::huber) return {sums.difference, 1, 0, 0};
  if (!unit) {
    if (metric == Metric::squared_l2) return {sums.difference, 2, 0, 0};
    return root_of(sums.difference, {0, 1, 0, 0});
  }
  PrefixLoss of = cosine_loss(sums);  // |a - b|^2 = 2 (1 - cos) between unit vectors; zeros stay zeros
  if (sums.student == 0 || sums.teacher == 0) of.value = sums.student == 0 && sums.teacher == 0 ? 0 : 0.5;
  if (metric == Metric::squared_l2) return {2 * of.value, 2 * of.apart, 2 * of.along, 2 * of.against};
  return root_of(2 * of.value, of);
}

// Whether float32 may have lost a prefix's squares.
__device__ inline bool needs_doubles(const Alignment& of, const PrefixSums& sums) {
  const auto outside = [](double square) { return square < 1e-24 || square > 1e30; };
  if (of.metric == Metric::huber) return false;
  const bool lengths = of.metric == Metric::cosine || of.unit_prefixes;
  return (lengths && (outside(sums.student) || outside(sums.teacher))) ||
         (of.metric == Metric::l2 && outside(sums.difference));
}

template <class Real>
__device__ __forceinline__ Real clamped(Real value, float delta) {
  const auto most = static_cast<Real>(delta);
  return value > most ? most : value < -most ? -most : value;
}

// The sums of all prefixes of the warp's row, the same in every lane.
template <class Real, class T>
__device__ void sum_row(const Alignment& of, const T* s, const T* t, bool words, PrefixSums* out) {
  PrefixSums sums{0, 0, 0, 0};
  for (int k = 0; k < of.count; ++k) {
    const std::int64_t first = k == 0 ? 0 : of.widths[k - 1], last = of.widths[k];
    Real difference = 0, square_s = 0, square_t = 0, product = 0;
    over_stretch(s, t, first, last, words, [&](std::int64_t index, int count, const T* a, const T* b) {
      for (int i = 0; i < count; ++i) {
        if (index + i < first || index + i >= last) continue;
        const Real x = to_float(a[i]), y = to_float(b[i]), apart = x - y;
        if (of.metric == Metric::huber) {  // |x| up to delta: x^2 / 2; beyond: delta (|x| - delta / 2)
          const Real within = clamped(apart, of.delta);
          difference += within * (apart - within / 2);
        } else {
          difference += apart * apart;
          square_s += x * x;
          square_t += y * y;
          product += x * y;
        }
      }
    });
    sums.difference += static_cast<double>(warp_sum(difference));
    sums.student += static_cast<double>(warp_sum(square_s));
    sums.teacher += static_cast<double>(warp_sum(square_t));
    sums.product += static_cast<double>(warp_sum(product));
    if (lane_index() == 0) out[k] = sums;
  }
  __syncwarp();
}

// The gradient of the warp's row from the slopes of its stretches; behind the last prefix it is 0.
template <class Real, class T>
__device__ void write_row(const Alignment& of, const T* s, const T* t, bool words, const PrefixLoss* slopes, T* out) {
  for (int k = 0; k <= of.count; ++k) {
    const bool behind = k == of.count;
    const std::int64_t first = k == 0 ? 0 : of.widths[k - 1], last = behind ? of.student.dim : of.widths[k];
    const Real apart_slope = behind ? 0 : static_cast<Real>(slopes[k].apart);
    const Real along_slope = behind ? 0 : static_cast<Real>(slopes[k].along);
    const Real against_slope = behind ? 0 : static_cast<Real>(slopes[k].against);
    over_stretch(s, t, first, last, words, [&](std::int64_t index, int count, const T* a, const T* b) {
      union Word {
        int4 whole;
        T values[kInWord<T>];
      } made;
      for (int i = 0; i < count; ++i) {
        const Real x = to_float(a[i]), y = to_float(b[i]);
        const Real apart = of.metric == Metric::huber ? clamped(x - y, of.delta) : x - y;
        const Real slope = apart * apart_slope + (x * along_slope + y * against_slope);
        made.values[i] = from_float<T>(behind ? 0.0f : static_cast<float>(slope));
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

constexpr std::size_t alignment_shared(int count) {
  return std::size_t{kRowsABlock} * static_cast<std::size_t>(count) * (sizeof(PrefixSums) + sizeof(PrefixLoss));
}

template <class T>
__global__ void __launch_bounds__(32 * kRowsABlock)
    alignment_rows(Alignment of, bool words, T* gradient, double* values) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowsABlock + warp_index();
  const std::int64_t rows = of.student.rows, dim = of.student.dim;
  if (row >= rows) return;  // the whole warp; nothing below waits for other warps
  const T* s = static_cast<const T*>(of.student.data) + row * dim;
  const T* t = static_cast<const T*>(of.teacher.data) + row * dim;
  auto* sums = static_cast<PrefixSums*>(shared_memory()) + warp_index() * of.count;
  auto* slopes = reinterpret_cast<PrefixLoss*>(static_cast<PrefixSums*>(shared_memory()) + kRowsABlock * of.count) +
                 warp_index() * of.count;
  sum_row<float>(of, s, t, words, sums);
  bool doubles = false;
  for (int k = 0; k < of.count; ++k) doubles = doubles || needs_doubles(of, sums[k]);
  __syncwarp();
  if (doubles) sum_row<double>(of, s, t, words, sums);
  if (lane_index() == 0) {
    const double weight = of.weights == nullptr ? 1.0 : static_cast<double>(of.weights[row]);
    const double scale = weight / static_cast<double>(rows);
    PrefixLoss all{0, 0, 0, 0};
    for (int k = of.count; k-- > 0;) {  // a stretch is part of its prefix and of all longer ones
      const PrefixLoss loss = prefix_loss(of.metric, of.unit_prefixes && of.widths[k] < dim, sums[k]);
      const double share = of.shares[k];
      all.value += share * loss.value;
      all.apart += share * loss.apart;
      all.along += share * loss.along;
      all.against += share * loss.against;
      slopes[k] = {all.value, scale * all.apart, scale * all.along, scale * all.against};
    }
    values[row] = weight * all.value;
  }
  __syncwarp();
  if (doubles)
    write_row<double>(of, s, t, words, slopes, gradient + row * dim);
  else
    write_row<float>(of, s, t, words, slopes, gradient + row * dim);
}

}  // namespace leafkit::cuda
