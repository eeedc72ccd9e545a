// encoder/rows.h: the work on rows, written once; a level's file compiles it with its own flags and registers.
#pragma once

#include "base/lanes.h"
#include "encoder/levels.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

// Leaves the slope in the place of x: the backward is then a product, and the exponential is formed once.
template <class S>
void gelu_rows(std::int64_t rows, std::int64_t width, S* in, const float* bias, S* out) {
  constexpr float kPeak = 0.39894228040f;  // of the normal density: 1 / sqrt(2 pi)
  for (std::int64_t row = 0; row < rows; ++row, in += width, out += width)
    for (std::int64_t i = 0; i < width; i += kLanes) {
      const Lanes x = load(in + i) + load(bias + i);
      const Normal at = normal(x);
      store(out + i, x * at.below);
      store(in + i, fma(x * kPeak, at.density, at.below));
    }
}

// in + bias + residual of one row.
template <class In>
[[gnu::always_inline]] inline Lanes summed(const Norm<In>& norm, std::int64_t row, std::int64_t i) {
  Lanes x = load(norm.in + row * norm.width + i);
  if (norm.bias != nullptr) x += load(norm.bias + i);
  if (norm.residual != nullptr) x += load(norm.residual + row * norm.width + i);
  return x;
}

// A row's mean and the reciprocal of its deviation; the row's sum of in, bias and residual is left in x.
struct Moments {
  float mean, scale;
};
template <class In>
[[gnu::always_inline]] inline Moments moments(const Norm<In>& norm, std::int64_t row, float* x) {
  const auto width = static_cast<float>(norm.width);
  Lanes total{}, squares{};
  for (std::int64_t i = 0; i < norm.width; i += kLanes) {
    const Lanes value = summed(norm, row, i);
    store(x + i, value);
    total += value;
  }
  const float mean = sum(total) / width;
  for (std::int64_t i = 0; i < norm.width; i += kLanes) {
    const Lanes apart = load(x + i) - mean;
    squares = fma(apart, apart, squares);
  }
  return {mean, 1.0f / __builtin_sqrtf(sum(squares) / width + norm.epsilon)};
}

template <class In, class Out>
void normalize_rows(const Norm<In>& norm, Out* out) {
  float x[kMostWidth];
  for (std::int64_t row = 0; row < norm.rows; ++row, out += norm.width) {
    const Moments of = moments(norm, row, x);
    for (std::int64_t i = 0; i < norm.width; i += kLanes)
      store(out + i, fma((load(x + i) - of.mean) * of.scale, load(norm.scale + i), load(norm.shift + i)));
  }
}

// `sums` (2, width) are increased by what these rows give to the gradients of scale and shift.
template <class In, class Out>
void normalize_rows_backward(const Norm<In>& norm, const Out* const (&gradients)[2], In* gradient_in, float* sums) {
  const std::int64_t width = norm.width;
  float x[kMostWidth], scaled[kMostWidth];
  for (std::int64_t row = 0; row < norm.rows; ++row, gradient_in += width) {
    const Moments of = moments(norm, row, x);
    Lanes total{}, product{};
    for (std::int64_t i = 0; i < width; i += kLanes) {
      Lanes gradient = load(gradients[0] + row * width + i);
      if (gradients[1] != nullptr) gradient += load(gradients[1] + row * width + i);
      const Lanes unit = (load(x + i) - of.mean) * of.scale, inner = gradient * load(norm.scale + i);
      store(sums + i, fma(gradient, unit, load(sums + i)));
      store(sums + width + i, load(sums + width + i) + gradient);
      total += inner;
      product = fma(inner, unit, product);
      store(x + i, unit);
      store(scaled + i, inner);
    }
    const float mean = sum(total) / static_cast<float>(width), along = sum(product) / static_cast<float>(width);
    for (std::int64_t i = 0; i < width; i += kLanes)
      store(gradient_in + i, of.scale * (load(scaled + i) - mean - load(x + i) * along));
  }
}

// One row of a square, multiplied by the factor and stored where there is one.
template <class S>
[[gnu::always_inline]] inline Lanes take_row(S* in, const S* factor) {
  if (factor == nullptr) return load(in);
  store(in, load(in) * load(factor));
  return load(in);
}

// A square of words: rows of float32, or of two bfloat16 rows interleaved. `total` is increased by the rows' sum.
// Rows are far apart, so that the next square's are fetched by hand.
template <class S>
[[gnu::always_inline]] inline void take_square(S* in, const S* factor, std::int64_t stride, Bits (&square)[kLanes],
                                               Lanes& total) {
  constexpr int kRows = 4 / sizeof(S);  // of a word
  for (int i = 0; i < kLanes; ++i) {
    Bits word{};
    for (int k = 0; k < kRows; ++k) {
      const std::int64_t at = (kRows * i + k) * stride;
      __builtin_prefetch(in + at + kLanes * kRows * stride);
      if (factor != nullptr) __builtin_prefetch(factor + at + kLanes * kRows * stride);
      const Lanes row = take_row(in + at, factor == nullptr ? nullptr : factor + at);
      total += row;
      word |= k + 1 == kRows ? bits(row) : bits(row) >> 16;
    }
    square[i] = word;
  }
}

// Columns `first` to `last`, multiples of 16: their transpose and their sums, after a product with the factor if any.
template <class S>
void transpose_columns(std::int64_t rows, std::int64_t width, std::int64_t first, std::int64_t last, S* in,
                       const S* factor, S* out, float* sums) {
  constexpr std::int64_t kRows = kLanes * 4 / sizeof(S);  // of a square
  for (std::int64_t i = first; i < last; ++i) sums[i] = 0;
  std::int64_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    for (std::int64_t column = first; column < last; column += kLanes) {
      const std::int64_t at = row * width + column;
      Bits square[kLanes];
      Lanes total = load(sums + column);
      if (factor == nullptr)
        take_square<S>(in + at, nullptr, width, square, total);
      else
        take_square<S>(in + at, factor + at, width, square, total);
      store(sums + column, total);
      turn_square(square);
      for (int i = 0; i < kLanes; ++i) __builtin_memcpy(out + (column + i) * rows + row, &square[i], sizeof square[i]);
    }
  for (; row < rows; ++row)
    for (std::int64_t column = first; column < last; column += kLanes) {
      const std::int64_t at = row * width + column;
      store(sums + column, load(sums + column) + take_row(in + at, factor == nullptr ? nullptr : factor + at));
      for (int i = 0; i < kLanes; ++i) out[(column + i) * rows + row] = in[at + i];
    }
}

template <class S>
void mean_of_rows(std::int64_t rows, std::int64_t width, const S* in, float* out) {
  for (std::int64_t i = 0; i < width; i += kLanes) {
    Lanes total{};
    for (std::int64_t row = 0; row < rows; ++row) total += load(in + row * width + i);
    store(out + i, total / static_cast<float>(rows));
  }
}

// Every row becomes the gradient times the factor.
template <class S>
void spread_rows(std::int64_t rows, std::int64_t width, const float* gradient, float factor, S* out) {
  for (std::int64_t row = 0; row < rows; ++row, out += width)
    for (std::int64_t i = 0; i < width; i += kLanes) store(out + i, load(gradient + i) * factor);
}

}  // namespace
}  // namespace leafkit
