// cuda/matrix_unit.cuh: one warp's product in the matrix unit (mma.sync, PTX ISA 8.0, "Matrix Fragments for
// mma.m16n8k16" and "m16n8k32"): 16 rows and 8 columns, 32 bytes of the inner dimension.
//
// Both sides are words of 4 bytes along the inner dimension. With group = lane / 4 and own = lane % 4 a lane brings
//   left    words own and own + 4 of rows group and group + 8: {row, row + 8, row at + 4, row + 8 at + 4}
//   right   words own and own + 4 of column group
// and holds of the sums rows group (first two) and group + 8, columns 2 own and 2 own + 1.
#pragma once

#include "cuda/machine.cuh"

namespace leafkit::cuda {

#ifdef LEAFKIT_EMULATED

template <class Values>
struct Fragments {
  unsigned left[4], right[2];
  typename Values::Sum* sums;
};

// The same as the unit does it: from the fragments of all lanes to two matrices, their product, and back.
template <class Values>
void multiply_fragments(void* const (&brought)[32], unsigned) {
  constexpr int kInner = 8 * Values::kInWord;
  typename Values::Sum left[16][kInner], right[8][kInner];
  const auto put = [](typename Values::Sum* row, int word, unsigned bits) {
    for (int i = 0; i < Values::kInWord; ++i) row[word * Values::kInWord + i] = Values::value(bits, i);
  };
  for (int lane = 0; lane < 32; ++lane) {
    const auto& of = *static_cast<Fragments<Values>*>(brought[lane]);
    const int group = lane / 4, own = lane % 4;
    put(left[group], own, of.left[0]), put(left[group + 8], own, of.left[1]);
    put(left[group], own + 4, of.left[2]), put(left[group + 8], own + 4, of.left[3]);
    put(right[group], own, of.right[0]), put(right[group], own + 4, of.right[1]);
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto& of = *static_cast<Fragments<Values>*>(brought[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      for (int k = 0; k < kInner; ++k) of.sums[i] += left[row][k] * right[column][k];
    }
  }
}

template <class Values>
void matrix_unit(typename Values::Sum (&sums)[4], const unsigned (&left)[4], const unsigned (&right)[2],
                 emulated::Site site = emulated::Site::current()) {
  Fragments<Values> of{{left[0], left[1], left[2], left[3]}, {right[0], right[1]}, sums};
  emulated::collective(kWholeWarp, &of, &multiply_fragments<Values>, site);
}

struct UnitBFloat16 {
  using Sum = float;
  static constexpr int kInWord = 2;
  static float value(unsigned word, int i) { return from_bfloat16(static_cast<std::uint16_t>(word >> (16 * i))); }
};
struct UnitFloat16 {
  using Sum = float;
  static constexpr int kInWord = 2;
  static float value(unsigned word, int i) { return from_float16(static_cast<std::uint16_t>(word >> (16 * i))); }
};
struct UnitInt8 {
  using Sum = int;
  static constexpr int kInWord = 4;
  static int value(unsigned word, int i) { return static_cast<std::int8_t>(word >> (8 * i)); }
};

#else

#define LEAFKIT_MMA(SHAPE, SUM, OF)                                                     \
  asm volatile("mma.sync.aligned." SHAPE ".row.col." OF                                 \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"     \
               : "+" SUM(sums[0]), "+" SUM(sums[1]), "+" SUM(sums[2]), "+" SUM(sums[3]) \
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]))

struct UnitBFloat16 {
  using Sum = float;
};
struct UnitFloat16 {
  using Sum = float;
};
struct UnitInt8 {
  using Sum = int;
};

template <class Values>
__device__ __forceinline__ void matrix_unit(typename Values::Sum (&sums)[4], const unsigned (&left)[4],
                                            const unsigned (&right)[2]);
template <>
__device__ __forceinline__ void matrix_unit<UnitBFloat16>(float (&sums)[4], const unsigned (&left)[4],
                                                          const unsigned (&right)[2]) {
  LEAFKIT_MMA("m16n8k16", "f", "f32.bf16.bf16.f32");
}
template <>
__device__ __forceinline__ void matrix_unit<UnitFloat16>(float (&sums)[4], const unsigned (&left)[4],
                                                         const unsigned (&right)[2]) {
  LEAFKIT_MMA("m16n8k16", "f", "f32.f16.f16.f32");
}
template <>
__device__ __forceinline__ void matrix_unit<UnitInt8>(int (&sums)[4], const unsigned (&left)[4],
                                                      const unsigned (&right)[2]) {
  LEAFKIT_MMA("m16n8k32", "r", "s32.s8.s8.s32");
}
#undef LEAFKIT_MMA

#endif

}  // namespace leafkit::cuda
