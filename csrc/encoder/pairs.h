// encoder/pairs.h: products of bfloat16, two a word, on CPUs that have them (AVX512_BF16).
#pragma once

#include <immintrin.h>

#include "encoder/level.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

struct Pairs {
  static constexpr int kValues = 2;
  static constexpr std::int64_t kStep = 16;
  [[gnu::always_inline]] static void store_row(Word* to, Lanes value) {
    const __m256bh halves = _mm512_cvtneps_pbh(value);
    __builtin_memcpy(to, &halves, sizeof halves);
  }
  [[gnu::always_inline]] static void store_pair(Word* to, Lanes upper, Lanes lower) {
    const __m256bh first = _mm512_cvtneps_pbh(upper), second = _mm512_cvtneps_pbh(lower);
    Halves halves[2];
    __builtin_memcpy(&halves[0], &first, sizeof first);
    __builtin_memcpy(&halves[1], &second, sizeof second);
    const Bits words = __builtin_convertvector(halves[0], Bits) | (__builtin_convertvector(halves[1], Bits) << 16);
    __builtin_memcpy(to, &words, sizeof words);
  }
  [[gnu::always_inline]] static Lanes add(Lanes total, Bits left, Bits right) {
    return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(left), reinterpret_cast<__m512bh>(right));
  }
  template <bool Add>
  [[gnu::always_inline]] static void multiply(std::int64_t rows, std::int64_t columns, std::int64_t words,
                                              const Word* left, std::int64_t left_stride, const Word* right,
                                              float* out) {
    multiply_tiles<Pairs, Add>(rows, columns, words, left, left_stride, right, out);
  }
};

}  // namespace
}  // namespace leafkit
