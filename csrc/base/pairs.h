// base/pairs.h: products of bfloat16, two a word, on CPUs that have them (AVX512_BF16).
#pragma once

#include <immintrin.h>

#include "base/words.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

struct Pairs {
  static constexpr int kValues = 2;
  static constexpr std::int64_t kStep = 16;
  [[gnu::always_inline]] static void store_row(Word* to, Lanes value) {
    const __m256bh halves = _mm512_cvtneps_pbh(value);
    __builtin_memcpy(to, &halves, sizeof halves);
  }
  // Two rows of values where the right side of a product over rows has them.
  [[gnu::always_inline]] static void store_over_rows(Word* to, const Lanes (&values)[2]) {
    const auto upper = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values[0]));
    const auto lower = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values[1]));
    const auto words = reinterpret_cast<Bits>(_mm512_cvtepu16_epi32(upper)) |
                       (reinterpret_cast<Bits>(_mm512_cvtepu16_epi32(lower)) << 16);
    __builtin_memcpy(to, &words, sizeof words);
  }
  [[gnu::always_inline]] static Lanes add(Lanes total, Bits left, Bits right) {
    return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(left), reinterpret_cast<__m512bh>(right));
  }
  static void begin() {}
  static void end() {}
  template <bool Add>
  [[gnu::always_inline]] static void multiply(std::int64_t rows, std::int64_t columns, std::int64_t words,
                                              const Word* left, std::int64_t left_stride, const Word* right,
                                              float* out) {
    multiply_tiles<Pairs, Add>(rows, columns, words, left, left_stride, right, out);
  }
};

}  // namespace
}  // namespace leafkit
