// encoder/tiles.h: gradients of matrices in the matrix unit: see products.h.
#pragma once

#include "base/tiles.h"
#include "encoder/products.h"
#include "encoder/rows.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

constexpr std::int64_t kTile = 512;  // values

// 32 x 32 sums over `steps` tiles, of two packed columns of tiles on each side. Rows of out are `bytes` apart.
[[gnu::noinline]] void sum_square(std::int64_t steps, const std::uint16_t* left, const std::uint16_t* right, float* out,
                                  std::int64_t bytes) {
  asm volatile("" ::: "memory");  // the compiler takes loads of tiles for reads of nothing
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::uint16_t *below = left + steps * kTile, *beside = right + steps * kTile;
  for (std::int64_t at = 0; at < steps * kTile; at += kTile) {
    _tile_loadd(4, left + at, 64);
    _tile_loadd(6, right + at, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, beside + at, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, below + at, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  auto* to = reinterpret_cast<char*>(out);
  _tile_stored(0, to, bytes);
  _tile_stored(1, to + 64, bytes);
  _tile_stored(2, to + 16 * bytes, bytes);
  _tile_stored(3, to + 16 * bytes + 64, bytes);
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
      sum_square(inner / kProductStep, left + row * inner, right + column * inner, out + row * apart + column,
                 static_cast<std::int64_t>(sizeof(float)) * apart);
    }
  _tile_release();
}

}  // namespace
}  // namespace leafkit
