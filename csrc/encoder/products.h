// encoder/products.h: the gradients of a layer's matrices in bfloat16, where the CPU has a matrix unit (AMX).
//
// A word is two values that lie next to each other along the dimension that is summed over, which are the rows; a tile
// is 16 rows of 16 words, 1 KiB. Packed: for every 16 columns of a matrix its tiles one after another. All sizes are
// multiples of kProductStep. Sums are float32; threads change no bit.
#pragma once

#include "encoder/encoder.h"

namespace leafkit {

constexpr std::int64_t kProductStep = 32;

bool has_products(Level level);

// The gradients of y = x W^T + b in W, (outputs, inputs), and b from that in y, which is multiplied by the factor first
// if there is one, in its place. `packed` is room for rows * min(outputs, inputs) values.
struct WeightGradient {
  std::int64_t rows, outputs, inputs;
  std::uint16_t* gradient;
  const std::uint16_t* factor;
  const std::uint16_t* x;
  std::uint16_t* packed;
  float* out;
  float* sums;
};
void weight_gradient(const WeightGradient& of, int threads);

// What the level's file compiles.
struct ProductKernels {
  // Columns `first` to `last` as a left side, summed over rows (and multiplied by the factor, which may be null,
  // before), with their sums; and as a right side.
  void (*pack_left)(std::int64_t rows, std::int64_t width, std::int64_t first, std::int64_t last, std::uint16_t* in,
                    const std::uint16_t* factor, std::uint16_t* out, float* sums);
  void (*pack_right)(std::int64_t rows, std::int64_t width, std::int64_t first, std::int64_t last,
                     const std::uint16_t* in, std::uint16_t* out);
  // Both sides packed, `inner` values along the sum; rows of out are `apart` floats apart.
  void (*multiply_packed)(std::int64_t inner, std::int64_t rows, const std::uint16_t* left, std::int64_t columns,
                          const std::uint16_t* right, float* out, std::int64_t apart);
};
#ifdef LEAFKIT_X86
extern const ProductKernels kProductsAmx;
#endif

}  // namespace leafkit
