// base/words.h: small matrix products over 32-bit words.
//
// A word is one float32 (Singles), or two bfloat16 (Pairs, Tiles) that lie next to each other along the dimension that
// is summed over: a product reads both alike. kValues are the values of a word, kStep what rows, columns and the sum of
// a product are multiples of.
#pragma once

#include "base/lanes.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

using Word = std::uint32_t;

[[gnu::always_inline]] inline std::int64_t padded(std::int64_t count, std::int64_t step) {
  return (count + step - 1) / step * step;
}

[[gnu::always_inline]] inline void clear(Word* words, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) words[i] = 0;
}

[[gnu::always_inline]] inline Bits bits_at(const Word* from) {
  Bits out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}

// out (columns, rows) = in (rows, columns), both multiples of 8.
void turn(std::int64_t rows, std::int64_t columns, const Word* in, Word* out) {
  constexpr std::int64_t kSquare = kLanes;
  const std::int64_t whole_rows = rows / kSquare * kSquare, whole_columns = columns / kSquare * kSquare;
  for (std::int64_t r = 0; r < whole_rows; r += kSquare)
    for (std::int64_t c = 0; c < whole_columns; c += kSquare) {
      Bits square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = bits_at(in + (r + i) * columns + c);
      turn_square(square);
      for (int i = 0; i < kLanes; ++i) __builtin_memcpy(out + (c + i) * rows + r, &square[i], sizeof square[i]);
    }
  for (std::int64_t r = 0; r < rows; ++r)  // 8 rows or columns behind squares of 16
    for (std::int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) out[c * rows + r] = in[r * columns + c];
}

// out (rows, columns) = left (rows, words) right (words, columns), or is increased by it.
template <class Type, int R, int V, bool Add>
[[gnu::always_inline]] inline void tile(std::int64_t words, const Word* left, std::int64_t left_stride,
                                        const Word* right, std::int64_t columns, float* out) {
  Lanes total[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) total[r][v] = Add ? load(out + r * columns + v * kLanes) : Lanes{};
  for (std::int64_t w = 0; w < words; ++w) {
    Bits at[V];
    for (int v = 0; v < V; ++v) at[v] = bits_at(right + w * columns + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const Bits word = Bits{} + left[r * left_stride + w];
      for (int v = 0; v < V; ++v) total[r][v] = Type::add(total[r][v], word, at[v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store(out + r * columns + v * kLanes, total[r][v]);
}

template <class Type, bool Add>
[[gnu::noinline]] void multiply_tiles(std::int64_t rows, std::int64_t columns, std::int64_t words, const Word* left,
                                      std::int64_t left_stride, const Word* right, float* out) {
  constexpr int kRows = kLanes == 16 ? 8 : 4;
  std::int64_t column = 0;
  for (; column + 2 * kLanes <= columns; column += 2 * kLanes)
    for (std::int64_t row = 0; row < rows; row += kRows)
      tile<Type, kRows, 2, Add>(words, left + row * left_stride, left_stride, right + column, columns,
                                out + row * columns + column);
  if (column < columns)
    for (std::int64_t row = 0; row < rows; row += kRows)
      tile<Type, kRows, 1, Add>(words, left + row * left_stride, left_stride, right + column, columns,
                                out + row * columns + column);
}

struct Singles {  // a word is a float32
  static constexpr int kValues = 1;
  static constexpr std::int64_t kStep = 16;  // rows and columns of a whole tile
  [[gnu::always_inline]] static void store_row(Word* to, Lanes value) { __builtin_memcpy(to, &value, sizeof value); }
  [[gnu::always_inline]] static Lanes add(Lanes total, Bits left, Bits right) {
    return fma(lanes(left), lanes(right), total);
  }
  // One row of values where the right side of a product over rows has it.
  [[gnu::always_inline]] static void store_over_rows(Word* to, const Lanes (&values)[1]) { store_row(to, values[0]); }
  static void begin() {}
  static void end() {}
  template <bool Add>
  [[gnu::always_inline]] static void multiply(std::int64_t rows, std::int64_t columns, std::int64_t words,
                                              const Word* left, std::int64_t left_stride, const Word* right,
                                              float* out) {
    multiply_tiles<Singles, Add>(rows, columns, words, left, left_stride, right, out);
  }
};

}  // namespace
}  // namespace leafkit
