// encoder/attention.h: one head of one text, forward and backward, from small matrix products over 32-bit words.
//
// A word is one float32, or two bfloat16 that lie next to each other along the dimension that is summed over: a product
// reads both alike. A matrix is prepared in one of four forms, all padded with zeros to whole tiles:
//   rows      (L, D / n)   words along D: left side of a product over D
//   columns   (D / n, L)   its transpose: right side of a product over D
//   pairs     (L / n, D)   n rows interleaved: right side of a product over L
//   turned    (D, L / n)   its transpose: left side of a product over L
// n being the values of a word. For float32, rows are pairs. Queries are taken kBlock at a time, so that scores stay in
// the nearest caches; keys need no blocks, texts are short.
#pragma once

#include "base/words.h"
#include "encoder/levels.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

constexpr std::int64_t kBlock = 64;

// Hands out what one head works in. Buffers are a little apart: of sizes that are powers of two, all would begin in the
// same set of the first cache, and a load would wait for a store that is 4 KiB away.
constexpr std::int64_t kApart = 3 * 16;
struct Words {
  Word* next;
  [[gnu::always_inline]] Word* take(std::int64_t count) {
    Word* out = next;
    next += padded(count, 16) + kApart;
    return out;
  }
  [[gnu::always_inline]] float* floats(std::int64_t count) { return reinterpret_cast<float*>(take(count)); }
};

// Rows of x + bias as words, and zeros up to `whole` rows. Type says what a word holds.
template <class Type, class S>
void take_rows(std::int64_t length, std::int64_t whole, std::int64_t dim, const S* x, std::int64_t stride,
               const float* bias, Word* out) {
  for (std::int64_t row = 0; row < length; ++row, out += dim / Type::kValues) {
    __builtin_prefetch(x + row * stride + dim);  // the next head's: rows are too far apart for the processor to guess
    for (std::int64_t i = 0; i < dim; i += kLanes) {
      Lanes value = load(x + row * stride + i);
      if (bias != nullptr) value += load(bias + i);
      Type::store_row(out + i / Type::kValues, value);
    }
  }
  clear(out, (whole - length) * dim / Type::kValues);
}

// Rows one under the other interleaved to words, n at a time.
template <class Type>
const Word* pairs_of(std::int64_t length, std::int64_t dim, const Word* rows, Words& words) {
  if constexpr (Type::kValues == 1) {
    return rows;
  } else {
    Word* out = words.take(length / 2 * dim);
    for (std::int64_t row = 0; row < length / 2; ++row) {
      const Word *upper = rows + 2 * row * (dim / 2), *lower = upper + dim / 2;
      Word* to = out + row * dim;
      std::int64_t i = 0;
      for (; i + kLanes <= dim / 2; i += kLanes) {
        const Bits u = bits_at(upper + i), l = bits_at(lower + i);
        const Bits even = (u & 0xffffu) | (l << 16), odd = (u >> 16) | (l & 0xffff0000u);
        const Bits both[] = {interleaved<false>(even, odd), interleaved<true>(even, odd)};
        __builtin_memcpy(to + 2 * i, both, sizeof both);
      }
      for (; i < dim / 2; ++i) {  // heads of 16 or 48 dims
        to[2 * i] = (upper[i] & 0xffffu) | (lower[i] << 16);
        to[2 * i + 1] = (upper[i] >> 16) | (lower[i] & 0xffff0000u);
      }
    }
    return out;
  }
}

[[gnu::always_inline]] inline const Word* turned(std::int64_t rows, std::int64_t columns, const Word* in,
                                                 Words& words) {
  Word* out = words.take(rows * columns);
  turn(rows, columns, in, out);
  return out;
}

template <class Type, class S>
void attend_head(const Head& head, const S* qkv, const float* bias, S* out, float* kept, Word* scratch) {
  const std::int64_t dim = head.dim, length = head.length, whole = padded(length, Type::kStep), n = Type::kValues;
  const std::int64_t stride = 3 * head.hidden;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(dim));
  Type::begin();
  Words words{scratch};
  Word* rows[3];
  for (int which = 0; which < 3; ++which) {
    rows[which] = words.take(whole * dim / n);
    const std::int64_t at = which * head.hidden;
    take_rows<Type>(length, whole, dim, qkv + at, stride, bias + at, rows[which]);
  }
  const Word *keys = turned(whole, dim / n, rows[1], words), *values = pairs_of<Type>(whole, dim, rows[2], words);
  float *scores = words.floats(kBlock * whole), *sums = words.floats(kBlock * dim);
  Word* weights = words.take(kBlock * whole / n);
  const std::int64_t last = (length - 1) / kLanes * kLanes;  // lanes with keys and, behind them, padding
  const Bits there = first_lanes(length - last);
  const Lanes nothing = all(-__builtin_inff());
  for (std::int64_t first = 0; first < length; first += kBlock) {
    const std::int64_t left = length - first < kBlock ? length - first : kBlock, block = padded(left, Type::kStep);
    Type::template multiply<false>(block, whole, dim / n, rows[0] + first * (dim / n), dim / n, keys, scores);
    for (std::int64_t row = 0; row < left; ++row) {
      float* score = scores + row * whole;
      Word* weight = weights + row * (whole / n);
      Lanes most = there ? load(score + last) : nothing;
      for (std::int64_t i = 0; i < last; i += kLanes) most = larger(most, load(score + i));
      const float top = largest(most);
      Lanes total{};
      for (std::int64_t i = 0; i < last; i += kLanes) {
        const Lanes value = exponential((load(score + i) - top) * scale);
        total += value;
        Type::store_row(weight + i / n, value);
      }
      const Lanes value = lanes(bits(exponential((load(score + last) - top) * scale)) & there);
      total += value;
      Type::store_row(weight + last / n, value);
      clear(weight + (last + kLanes) / n, (whole - last - kLanes) / n);
      kept[2 * (first + row)] = top;
      kept[2 * (first + row) + 1] = 1.0f / sum(total);
    }
    clear(weights + left * (whole / n), (block - left) * (whole / n));
    Type::template multiply<false>(block, dim, whole / n, weights, whole / n, values, sums);
    for (std::int64_t row = 0; row < left; ++row)
      for (std::int64_t i = 0; i < dim; i += kLanes)
        store(out + (first + row) * head.hidden + i, load(sums + row * dim + i) * kept[2 * (first + row) + 1]);
  }
  Type::end();
}

template <class Type, class S>
void attend_head_backward(const Head& head, const S* qkv, const float* bias, const S* out, const float* kept,
                          const S* gradient, S* gradient_qkv, Word* scratch) {
  const std::int64_t dim = head.dim, length = head.length, whole = padded(length, Type::kStep), n = Type::kValues;
  const std::int64_t hidden = head.hidden, stride = 3 * hidden;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(dim));
  Type::begin();
  Words words{scratch};
  Word* rows[4];
  for (int which = 0; which < 4; ++which) rows[which] = words.take(whole * dim / n);
  for (int which = 0; which < 3; ++which)
    take_rows<Type>(length, whole, dim, qkv + which * hidden, stride, bias + which * hidden, rows[which]);
  take_rows<Type>(length, whole, dim, gradient, hidden, nullptr, rows[3]);
  const Word *key_columns = turned(whole, dim / n, rows[1], words),
             *value_columns = turned(whole, dim / n, rows[2], words);
  const Word* key_pairs = pairs_of<Type>(whole, dim, rows[1], words);
  const Word* queries_turned = turned(whole / n, dim, pairs_of<Type>(whole, dim, rows[0], words), words);
  const Word* gradient_turned = turned(whole / n, dim, pairs_of<Type>(whole, dim, rows[3], words), words);
  float *scores = words.floats(kBlock * whole), *slopes = words.floats(kBlock * whole);
  // The gradients of keys and values are summed transposed, (dim, whole), over the blocks of queries.
  float *of_keys = words.floats(dim * whole), *of_values = words.floats(dim * whole);
  float* of_queries = words.floats(kBlock * dim);
  Word* slope_rows = words.take(kBlock * whole / n);
  Word* slope_pairs = n == 1 ? slope_rows : words.take(kBlock * whole / n);
  Word* weight_pairs = words.take(kBlock * whole / n);
  clear(reinterpret_cast<Word*>(of_keys), dim * whole);
  clear(reinterpret_cast<Word*>(of_values), dim * whole);
  const std::int64_t last = (length - 1) / kLanes * kLanes;
  const Bits there = first_lanes(length - last);
  if (last + kLanes < whole) {  // columns that are never written
    clear(slope_rows, kBlock * whole / n);
    clear(slope_pairs, kBlock * whole / n);
    clear(weight_pairs, kBlock * whole / n);
  }
  for (std::int64_t first = 0; first < length; first += kBlock) {
    const std::int64_t left = length - first < kBlock ? length - first : kBlock, block = padded(left, Type::kStep);
    Type::template multiply<false>(block, whole, dim / n, rows[0] + first * (dim / n), dim / n, key_columns, scores);
    Type::template multiply<false>(block, whole, dim / n, rows[3] + first * (dim / n), dim / n, value_columns, slopes);
    const std::int64_t some = padded(left, n);
    for (std::int64_t row = 0; row < some; row += n) {
      float top[2] = {}, over[2] = {}, along[2] = {};  // zeros: a row of padding has no weight
      for (std::int64_t i = 0; i < n && row + i < left; ++i) {
        const std::int64_t at = first + row + i;
        top[i] = kept[2 * at];
        over[i] = kept[2 * at + 1];
        __builtin_prefetch(out + at * hidden + dim);
        Lanes product{};
        for (std::int64_t d = 0; d < dim; d += kLanes)
          product = fma(load(out + at * hidden + d), load(gradient + at * hidden + d), product);
        along[i] = sum(product);
      }
      for (std::int64_t i = 0; i <= last; i += kLanes) {
        Lanes weight[Type::kValues], slope[Type::kValues];
        for (int k = 0; k < n; ++k) {
          const std::int64_t from = (row + k) * whole + i;
          weight[k] = exponential((load(scores + from) - top[k]) * scale) * over[k];
          if (i == last) weight[k] = lanes(bits(weight[k]) & there);
          slope[k] = weight[k] * (load(slopes + from) - along[k]) * scale;
          Type::store_row(slope_rows + (row + k) * (whole / n) + i / n, slope[k]);
        }
        Type::store_over_rows(slope_pairs + row / n * whole + i, slope);
        Type::store_over_rows(weight_pairs + row / n * whole + i, weight);
      }
    }
    const std::int64_t unused = (block - some) * (whole / n);
    clear(slope_rows + some * (whole / n), unused);
    clear(slope_pairs + some * (whole / n), unused);
    clear(weight_pairs + some * (whole / n), unused);
    Type::template multiply<false>(block, dim, whole / n, slope_rows, whole / n, key_pairs, of_queries);
    Type::template multiply<true>(dim, whole, block / n, queries_turned + first / n, whole / n, slope_pairs, of_keys);
    Type::template multiply<true>(dim, whole, block / n, gradient_turned + first / n, whole / n, weight_pairs,
                                  of_values);
    for (std::int64_t row = 0; row < left; ++row)
      for (std::int64_t i = 0; i < dim; i += kLanes)
        store(gradient_qkv + (first + row) * stride + i, load(of_queries + row * dim + i));
  }
  Type::end();
  const float* turned_back[] = {of_keys, of_values};
  for (int which = 0; which < 2; ++which) {
    const auto* back =
        reinterpret_cast<const float*>(turned(dim, whole, reinterpret_cast<const Word*>(turned_back[which]), words));
    S* to = gradient_qkv + (which + 1) * hidden;
    for (std::int64_t row = 0; row < length; ++row)
      for (std::int64_t i = 0; i < dim; i += kLanes) store(to + row * stride + i, load(back + row * dim + i));
  }
}

}  // namespace
}  // namespace leafkit
