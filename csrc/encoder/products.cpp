#include "encoder/products.h"

#include <algorithm>
#include <stdexcept>

#include "base/pool.h"
#include "base/scratch.h"

namespace leafkit {
namespace {

constexpr std::int64_t kPart = 64;  // columns: what one thread packs stays in its second cache

const ProductKernels& kernels() {
#ifdef LEAFKIT_X86
  return kProductsAmx;
#else
  throw std::logic_error("this CPU has no matrix unit");
#endif
}

// Calls work(first, last) for parts of `count`.
template <class Work>
void in_parts(std::int64_t count, int threads, const Work& work) {
  parallel((count + kPart - 1) / kPart, threads,
           [&](std::int64_t part) { work(part * kPart, std::min(count, (part + 1) * kPart)); });
}

std::uint16_t* room(std::int64_t halves) { return reinterpret_cast<std::uint16_t*>(scratch(halves / 2)); }

}  // namespace

bool has_products(Level level) { return level == Level::amx; }

// The wider side is packed part by part and multiplied at once, the other beforehand.
void weight_gradient(const WeightGradient& of, int threads) {
  const auto& level = kernels();
  if (of.outputs >= of.inputs) {
    in_parts(of.inputs, threads, [&](std::int64_t first, std::int64_t last) {
      level.pack_right(of.rows, of.inputs, first, last, of.x, of.packed + first * of.rows);
    });
    in_parts(of.outputs, threads, [&](std::int64_t first, std::int64_t last) {
      std::uint16_t* left = room(kPart * of.rows);
      level.pack_left(of.rows, of.outputs, first, last, of.gradient, of.factor, left, of.sums);
      level.multiply_packed(of.rows, last - first, left, of.inputs, of.packed, of.out + first * of.inputs, of.inputs);
    });
  } else {
    in_parts(of.outputs, threads, [&](std::int64_t first, std::int64_t last) {
      level.pack_left(of.rows, of.outputs, first, last, of.gradient, of.factor, of.packed + first * of.rows, of.sums);
    });
    in_parts(of.inputs, threads, [&](std::int64_t first, std::int64_t last) {
      std::uint16_t* right = room(kPart * of.rows);
      level.pack_right(of.rows, of.inputs, first, last, of.x, right);
      level.multiply_packed(of.rows, of.outputs, of.packed, last - first, right, of.out + first, of.inputs);
    });
  }
}

}  // namespace leafkit
