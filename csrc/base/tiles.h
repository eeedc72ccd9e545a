// base/tiles.h: products of bfloat16 in the matrix unit (AMX): tiles of 16 rows of 16 words.
#pragma once

#include "base/pairs.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

// Eight tiles of 16 rows of 64 bytes, as LDTILECFG reads it.
struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline void configure() {
  static const Configuration configuration;
  _tile_loadconfig(&configuration);
}

// R x V tiles of 16 x 16 sums; the sums are tiles 0 to 3, the left side 4 and 5, the right side 6 and 7.
template <int R, int V, bool Add>
[[gnu::always_inline]] inline void block(std::int64_t words, const Word* left, std::int64_t left_stride,
                                         const Word* right, std::int64_t columns, float* out) {
  const std::int64_t apart = 4 * columns, left_apart = 4 * left_stride;
  if constexpr (Add) {
    _tile_loadd(0, out, apart);
    if constexpr (V == 2) _tile_loadd(1, out + 16, apart);
    if constexpr (R == 2) _tile_loadd(2, out + 16 * columns, apart);
    if constexpr (R == 2 && V == 2) _tile_loadd(3, out + 16 * columns + 16, apart);
  } else {
    _tile_zero(0);
    if constexpr (V == 2) _tile_zero(1);
    if constexpr (R == 2) _tile_zero(2);
    if constexpr (R == 2 && V == 2) _tile_zero(3);
  }
  for (std::int64_t w = 0; w < words; w += 16) {
    _tile_loadd(4, left + w, left_apart);
    _tile_loadd(6, right + w * columns, apart);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (V == 2) {
      _tile_loadd(7, right + w * columns + 16, apart);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R == 2) {
      _tile_loadd(5, left + 16 * left_stride + w, left_apart);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (V == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out, apart);
  if constexpr (V == 2) _tile_stored(1, out + 16, apart);
  if constexpr (R == 2) _tile_stored(2, out + 16 * columns, apart);
  if constexpr (R == 2 && V == 2) _tile_stored(3, out + 16 * columns + 16, apart);
}

template <int R, bool Add>
[[gnu::always_inline]] inline void block_row(std::int64_t columns, std::int64_t words, const Word* left,
                                             std::int64_t left_stride, const Word* right, float* out) {
  std::int64_t column = 0;
  for (; column + 32 <= columns; column += 32)
    block<R, 2, Add>(words, left, left_stride, right + column, columns, out + column);
  if (column < columns) block<R, 1, Add>(words, left, left_stride, right + column, columns, out + column);
}

template <bool Add>
[[gnu::noinline]] void multiply_blocks(std::int64_t rows, std::int64_t columns, std::int64_t words, const Word* left,
                                       std::int64_t left_stride, const Word* right, float* out) {
  asm volatile("" ::: "memory");  // the compiler takes loads of tiles for reads of nothing
  std::int64_t row = 0;
  for (; row + 32 <= rows; row += 32)
    block_row<2, Add>(columns, words, left + row * left_stride, left_stride, right, out + row * columns);
  if (row < rows) block_row<1, Add>(columns, words, left + row * left_stride, left_stride, right, out + row * columns);
}

struct Tiles : Pairs {
  static constexpr std::int64_t kStep = 32;  // so that products over keys or queries are whole tiles of pairs
  static void begin() { configure(); }
  static void end() { _tile_release(); }
  template <bool Add>
  [[gnu::always_inline]] static void multiply(std::int64_t rows, std::int64_t columns, std::int64_t words,
                                              const Word* left, std::int64_t left_stride, const Word* right,
                                              float* out) {
    if (words % 16 == 0)
      multiply_blocks<Add>(rows, columns, words, left, left_stride, right, out);
    else  // heads of 16 or 48 dims
      Pairs::multiply<Add>(rows, columns, words, left, left_stride, right, out);
  }
};

}  // namespace
}  // namespace leafkit
