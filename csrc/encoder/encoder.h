// encoder/encoder.h: what a BERT layer does beside its matrix products, forward and backward, on packed rows.
//
// Packed: the tokens of all texts one after another; text t is rows starts[t] to starts[t + 1]. Rows behind the last
// text are there so that matrix products come in few sizes: outputs are 0 there. S is float or bfloat16 (as its 16
// bits); all arithmetic is float32. Widths and head dims are multiples of 16, rows are adjacent. Every result is the
// same for any number of threads.
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu.h"

namespace leafkit {

constexpr std::int64_t kWidthStep = 16;    // widths and head dims are multiples of it
constexpr std::int64_t kMostWidth = 8192;  // of a row that is normalised
constexpr std::int64_t kMostHeadDim = 256;

// How a call is carried out; the numbers that it gives do not depend on threads.
struct Run {
  int threads;
  Level level;
};

// One attention: `rows` rows of queries, keys and values side by side, (rows, 3 heads dim).
struct Attention {
  std::span<const std::int64_t> starts;
  std::int64_t rows, heads, dim;
};

// softmax(q k^T / sqrt(dim)) v with q, k, v = qkv + bias, per text and head: out (rows, heads dim). `kept` (heads,
// rows, 2) takes each row's largest score and the reciprocal of its sum, from which the backward finds the weights
// again.
template <class S>
void attend(const Attention& shape, const S* qkv, const float* bias, S* out, float* kept, Run run);
template <class S>
void attend_backward(const Attention& shape, const S* qkv, const float* bias, const S* out, const float* kept,
                     const S* gradient, S* gradient_qkv, Run run);

// out = x Phi(x), x = in + bias, Phi the normal distribution: the exact GELU. `in` becomes the slope at x, which a
// gradient is multiplied by on the way back.
template <class S>
void gelu(std::int64_t rows, std::int64_t width, S* in, const float* bias, S* out, Run run);

// out = layer norm of in + bias + residual (each of the latter may be null).
template <class In>
struct Norm {
  std::int64_t rows, width;
  const In* in;
  const float* bias;
  const In* residual;
  const float* scale;
  const float* shift;
  float epsilon;
};
template <class In, class Out>
void normalize(const Norm<In>& norm, Out* out, Run run);
// `gradients` come in up to two parts that are added (the second may be null); gradient_in is that of in and residual.
template <class In, class Out>
void normalize_backward(const Norm<In>& norm, const Out* const (&gradients)[2], In* gradient_in, float* gradient_scale,
                        float* gradient_shift, Run run);

// The transpose (width, rows), as weight gradients read it, and the sum of each column. Where there is a factor (rows,
// width), `in` is multiplied by it first.
template <class S>
void transpose(std::int64_t rows, std::int64_t width, S* in, const S* factor, S* out, float* sums, Run run);

// A text's vector (texts, width): the mean of its rows, or its first row.
template <class S>
void pool(std::span<const std::int64_t> starts, std::int64_t width, bool mean, const S* in, float* out, Run run);
template <class S>
void pool_backward(std::span<const std::int64_t> starts, std::int64_t rows, std::int64_t width, bool mean,
                   const float* gradient, S* gradient_in, Run run);

}  // namespace leafkit
