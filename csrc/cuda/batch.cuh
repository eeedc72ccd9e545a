// cuda/batch.cuh: losses between the texts of a batch, a chunk of its columns at a time: products leave a chunk of
// scores (rows of the batch x some hundred columns), a warp a row turns them into sums or slopes, and a second product
// adds the slopes times the chunk's texts to the gradient. Nothing has the size of all pairs.
#pragma once

#include "cuda/tile.cuh"

namespace leafkit::cuda {

constexpr int kRowThreads = 256;  // eight rows a block

__device__ __forceinline__ std::int64_t row_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * (kRowThreads / 32) + warp_index();
}

// out = scale x y', or is added to.
template <class Tile>
__global__ void __launch_bounds__(kTileThreads, Tile::kBlocks)
    product(Side x, Side y, float scale, bool add, float* out, std::int64_t stride) {
  Tile tile;
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.x) * Tile::kRows;
  const std::int64_t column0 = static_cast<std::int64_t>(blockIdx.y) * kTileColumns;
  tile.multiply(x, row0, y, column0, shared_memory());
  tile.each([&](int row, int column, float sum) {
    if (row0 + row >= x.rows || column0 + column >= y.rows) return;
    float* to = out + (row0 + row) * stride + column0 + column;
    *to = scale * sum + (add ? *to : 0.0f);
  });
}

// Values of T as words of W, rows `to_stride` values apart, from column `at` on; minus those of `less` where there are.
template <class T, class W>
__global__ void __launch_bounds__(kRowThreads)
    convert(const T* from, const T* less, std::int64_t rows, std::int64_t dim, W* to, std::int64_t to_stride,
            std::int64_t at) {
  const std::int64_t row = row_of_warp();
  if (row >= rows) return;
  for (std::int64_t i = lane_index(); i < dim; i += 32) {
    float value = to_float(from[row * dim + i]);
    if (less != nullptr) value -= to_float(less[row * dim + i]);
    to[row * to_stride + at + i] = from_float<W>(value);
  }
}

template <class W>
__global__ void __launch_bounds__(kRowThreads) clear(W* words, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < count) words[i] = from_float<W>(0.0f);
}

// Rows first to first + count, turned: (dim, count), rows of it `to_stride` values apart. 32 x 32 values a block.
template <class W>
__global__ void __launch_bounds__(kRowThreads)
    turn(const W* from, std::int64_t from_stride, std::int64_t first, std::int64_t count, std::int64_t dim, W* to,
         std::int64_t to_stride) {
  W* square = static_cast<W*>(shared_memory());  // 32 rows of 33
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.x) * 32,
                     column0 = static_cast<std::int64_t>(blockIdx.y) * 32;
  for (int row = warp_index(); row < 32; row += kRowThreads / 32)
    if (row0 + row < count && column0 + lane_index() < dim)
      square[row * 33 + lane_index()] = from[(first + row0 + row) * from_stride + column0 + lane_index()];
  __syncthreads();
  for (int row = warp_index(); row < 32; row += kRowThreads / 32)
    if (column0 + row < dim && row0 + lane_index() < count)
      to[(column0 + row) * to_stride + row0 + lane_index()] = square[lane_index() * 33 + row];
}

template <class T>
__global__ void __launch_bounds__(kRowThreads)
    own_scores(const T* student, const T* teacher, std::int64_t rows, std::int64_t dim, float scale, float* own) {
  const std::int64_t row = row_of_warp();
  if (row >= rows) return;
  float sum = 0;
  for (std::int64_t i = lane_index(); i < dim; i += 32)
    sum += to_float(student[row * dim + i]) * to_float(teacher[row * dim + i]);
  sum = warp_sum(sum) * scale;
  if (lane_index() == 0) own[row] = sum;
}

// What is known of the softmax over the scores of a row: the largest, and the sum of exp(score - largest).
struct Softmax {
  float *top, *sum;
};

// A chunk's scores, of columns first to first + count, into the sums of their rows; a row's own column stays out.
static __global__ void __launch_bounds__(kRowThreads)
    observe(const float* scores, std::int64_t stride, std::int64_t rows, std::int64_t first, int count,
            Softmax softmax) {
  const std::int64_t row = row_of_warp();
  if (row >= rows) return;
  const float* of = scores + row * stride;
  const float before = first == 0 ? -INFINITY : softmax.top[row];
  float top = before;
  for (int column = lane_index(); column < count; column += 32)
    if (first + column != row && !(of[column] <= top)) top = of[column];  // NaN goes on
  top = warp_max(top);
  float sum = 0;
  for (int column = lane_index(); column < count; column += 32)
    if (first + column != row) sum += expf(of[column] - top);
  sum = warp_sum(sum);
  if (lane_index() != 0) return;
  if (!(before <= -INFINITY)) sum += softmax.sum[row] * expf(before - top);  // NaN goes on here too
  softmax.top[row] = top;
  softmax.sum[row] = top > -INFINITY || top != top ? sum : 0.0f;
}

// InfoNCE of every row from the sums of the others. With nearly all the weight on a row's own document its slope is
// -1 / (1 + e^-x), x the log of the others' part over its own, and not a difference of two numbers near 1.
static __global__ void __launch_bounds__(kRowThreads)
    contrast(std::int64_t rows, const float* own, Softmax others, float* log_sum, float* own_slope, double* values) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (row >= rows) return;
  const double there = static_cast<double>(others.top[row]) + log(static_cast<double>(others.sum[row]));
  const double x = there - own[row];  // -inf for a text alone
  const double loss = x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
  values[row] = loss;
  log_sum[row] = static_cast<float>(loss + own[row]);
  own_slope[row] = static_cast<float>(-1 / (1 + exp(-x)));
}

template <class W>
__global__ void __launch_bounds__(kRowThreads)
    weigh(const float* scores, std::int64_t stride, std::int64_t rows, std::int64_t first, int count,
          const float* log_sum, const float* own_slope, W* out) {
  const std::int64_t row = row_of_warp();
  if (row >= rows) return;
  for (int column = lane_index(); column < count; column += 32)
    out[row * stride + column] =
        from_float<W>(first + column == row ? own_slope[row] : expf(scores[row * stride + column] - log_sum[row]));
}

static __global__ void __launch_bounds__(kRowThreads) log_sums(std::int64_t rows, Softmax softmax, float* out) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (row < rows) out[row] = softmax.top[row] + logf(softmax.sum[row]);
}

// The divergence of a chunk, added to its rows', and its slope in every score: that of row and column together.
template <class W>
__global__ void __launch_bounds__(kRowThreads)
    differ(const float* student, const float* teacher, std::int64_t stride, std::int64_t rows, std::int64_t first,
           int count, const float* student_sums, const float* teacher_sums, W* out, double* values) {
  const std::int64_t row = row_of_warp();
  if (row >= rows) return;
  double value = 0;
  for (int column = lane_index(); column < count; column += 32) {
    float slope = 0;
    if (first + column != row) {
      const float s = student[row * stride + column], t = teacher[row * stride + column];
      const float log_q = s - student_sums[row], log_p = t - teacher_sums[row];
      const float p = expf(log_p);
      value += static_cast<double>(p > 0 || p != p ? p * (log_p - log_q) : 0.0f);
      slope = (expf(log_q) - p) + (expf(s - student_sums[first + column]) - expf(t - teacher_sums[first + column]));
    }
    out[row * stride + column] = from_float<W>(slope);
  }
  value = warp_sum(value);
  if (lane_index() == 0) values[row] = value + (first == 0 ? 0.0 : values[row]);
}

template <class W>
__global__ void __launch_bounds__(kRowThreads) square(const float* apart, std::int64_t stride, std::int64_t rows,
                                                      std::int64_t first, int count, W* out, double* values) {
  const std::int64_t row = row_of_warp();
  if (row >= rows) return;
  double value = 0;
  for (int column = lane_index(); column < count; column += 32) {
    const float of = apart[row * stride + column];
    value += static_cast<double>(of) * of;
    out[row * stride + column] = from_float<W>(of);
  }
  value = warp_sum(value);
  if (lane_index() == 0) values[row] = value + (first == 0 ? 0.0 : values[row]);
}

template <class T>
__global__ void __launch_bounds__(kRowThreads) scaled(const float* from, std::int64_t count, float scale, T* to) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < count) to[i] = from_float<T>(scale * from[i]);
}

}  // namespace leafkit::cuda
