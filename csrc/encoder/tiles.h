// encoder/tiles.h: products of whole matrices in the matrix unit: see products.h.
#pragma once

#include <immintrin.h>

#include "encoder/pairs.h"
#include "encoder/products.h"
#include "encoder/rows.h"

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

constexpr std::int64_t kTile = 512;  // values

// Tiles of the left side: where the first lies, and how far the next one is along the sum, and 16 rows below.
struct Left {
  const std::uint16_t* at;
  std::int64_t next, below, bytes_a_row;
};

// 32 x 32 sums over `steps` tiles: left times two columns of packed tiles. Rows of out are `bytes` apart.
[[gnu::noinline]] void sum_square(std::int64_t steps, Left left, const std::uint16_t* right, float* out,
                                  std::int64_t bytes) {
  asm volatile("" ::: "memory");  // the compiler takes loads of tiles for reads of nothing
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::uint16_t* beside = right + steps * kTile;
  for (std::int64_t step = 0; step < steps; ++step, left.at += left.next, right += kTile, beside += kTile) {
    _tile_loadd(4, left.at, left.bytes_a_row);
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, beside, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left.at + left.below, left.bytes_a_row);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  auto* to = reinterpret_cast<char*>(out);
  _tile_stored(0, to, bytes);
  _tile_stored(1, to + 64, bytes);
  _tile_stored(2, to + 16 * bytes, bytes);
  _tile_stored(3, to + 16 * bytes + 64, bytes);
}

// Two registers as 32 bfloat16.
[[gnu::always_inline]] inline Bits narrowed(Lanes first, Lanes second) {
  return reinterpret_cast<Bits>(_mm512_cvtne2ps_pbh(second, first));
}

void pack_weight_rows(std::int64_t outputs, std::int64_t inputs, std::int64_t first, std::int64_t last,
                      const float* weight, std::uint16_t* forward, std::uint16_t* backward) {
  const std::int64_t steps = inputs / kProductStep, back_steps = outputs / kProductStep;
  for (std::int64_t row = first; row < last; row += kLanes)
    for (std::int64_t step = 0; step < steps; ++step) {
      Bits square[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const float* from = weight + (row + i) * inputs + step * kProductStep;
        square[i] = narrowed(load(from), load(from + kLanes));
      }
      turn_square(square);
      __builtin_memcpy(forward + (row / kLanes * steps + step) * kTile, square, sizeof square);
    }
  for (std::int64_t row = first; row < last; row += kProductStep)
    for (std::int64_t column = 0; column < inputs; column += kLanes) {
      auto* to = reinterpret_cast<Word*>(backward + (column / kLanes * back_steps + row / kProductStep) * kTile);
      for (int i = 0; i < kLanes; ++i) {
        const float* from = weight + (row + 2 * i) * inputs + column;
        const Lanes values[] = {load(from), load(from + inputs)};
        Pairs::store_over_rows(to + i * kLanes, values);
      }
    }
}

void multiply_rows(std::int64_t rows, std::int64_t inner, std::int64_t columns, const std::uint16_t* left,
                   const std::uint16_t* right, std::uint16_t* out) {
  alignas(64) float sums[kProductStep * kProductStep];
  const std::int64_t steps = inner / kProductStep;
  configure();
  for (std::int64_t row = 0; row < rows; row += kProductStep)  // these rows stay in the first cache
    for (std::int64_t column = 0; column < columns; column += kProductStep) {
      const Left from{left + row * inner, kProductStep, kLanes * inner, 2 * inner};
      sum_square(steps, from, right + column * inner, sums, sizeof(float) * kProductStep);
      for (std::int64_t i = 0; i < kProductStep; ++i) {
        const float* sum = sums + i * kProductStep;
        const Bits values = narrowed(load(sum), load(sum + kLanes));
        __builtin_memcpy(out + (row + i) * columns + column, &values, sizeof values);
      }
    }
  _tile_release();
}

// As a left side (Turned), with the sums of columns and the product with the factor if any; or as a right side.
template <bool Turned>
void pack_columns(std::int64_t rows, std::int64_t width, std::int64_t first, std::int64_t last, std::uint16_t* in,
                  const std::uint16_t* factor, std::uint16_t* out, float* sums) {
  const std::int64_t steps = rows / kProductStep;
  if (Turned)
    for (std::int64_t i = first; i < last; ++i) sums[i] = 0;
  for (std::int64_t step = 0; step < steps; ++step)
    for (std::int64_t column = first; column < last; column += kLanes) {
      const std::int64_t at = step * kProductStep * width + column;
      Bits square[kLanes];
      Lanes total = Turned ? load(sums + column) : Lanes{};
      if (factor == nullptr)
        take_square<std::uint16_t>(in + at, nullptr, width, square, total);
      else
        take_square<std::uint16_t>(in + at, factor + at, width, square, total);
      if (Turned) {
        store(sums + column, total);
        turn_square(square);
      }
      __builtin_memcpy(out + ((column - first) / kLanes * steps + step) * kTile, square, sizeof square);
    }
}

void pack_right_side(std::int64_t rows, std::int64_t width, std::int64_t first, std::int64_t last,
                     const std::uint16_t* in, std::uint16_t* out) {
  // Without a factor nothing is stored to `in`.
  pack_columns<false>(rows, width, first, last, const_cast<std::uint16_t*>(in), nullptr, out, nullptr);
}

// Goes once through the longer side, and for each 32 of it through the other, which stays in the second cache.
void multiply_sides(std::int64_t inner, std::int64_t rows, const std::uint16_t* left, std::int64_t columns,
                    const std::uint16_t* right, float* out, std::int64_t apart) {
  const bool many_rows = rows > columns;
  const std::int64_t outer = many_rows ? rows : columns, within = many_rows ? columns : rows;
  configure();
  for (std::int64_t i = 0; i < outer; i += kProductStep)
    for (std::int64_t k = 0; k < within; k += kProductStep) {
      const std::int64_t row = many_rows ? i : k, column = many_rows ? k : i;
      const Left from{left + row * inner, kTile, kLanes * inner, 64};
      sum_square(inner / kProductStep, from, right + column * inner, out + row * apart + column,
                 static_cast<std::int64_t>(sizeof(float)) * apart);
    }
  _tile_release();
}

}  // namespace
}  // namespace leafkit
