// base/lanes.h: a level's registers of float32, and what the kernels do with them besides the usual operators.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace leafkit {
namespace {  // unnamed: the linker must never hand code of one level's file to another CPU

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// As the compiler's own vectors: +, -, *, /, comparisons and ?: work on them at every level.
using Lanes = float __attribute__((vector_size(4 * kLanes)));
using Bits = std::uint32_t __attribute__((vector_size(4 * kLanes)));
using Signed = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Halves = std::uint16_t __attribute__((vector_size(2 * kLanes)));

[[gnu::always_inline]] inline Lanes all(float value) { return Lanes{} + value; }
[[gnu::always_inline]] inline Bits bits(Lanes lanes) { return reinterpret_cast<Bits>(lanes); }
[[gnu::always_inline]] inline Lanes lanes(Bits bits) { return reinterpret_cast<Lanes>(bits); }

[[gnu::always_inline]] inline Lanes load(const float* from) {
  Lanes out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}
// Widened to words. The compiler's own conversion takes a vector apart to put it together again (GCC 12).
[[gnu::always_inline]] inline Bits widened(const std::uint16_t* from) {
#if defined(__AVX512F__)
  return reinterpret_cast<Bits>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__AVX2__)
  return reinterpret_cast<Bits>(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  return __builtin_convertvector(halves, Bits);
#endif
}
[[gnu::always_inline]] inline Lanes load(const std::uint16_t* from) { return lanes(widened(from) << 16); }  // bfloat16

// The nearest bfloat16, ties to even, in the upper half of each lane; NaN stays NaN.
[[gnu::always_inline]] inline Bits rounded(Lanes value) {
  const Bits all_bits = bits(value);
  const Bits up = all_bits + 0x7fffu + ((all_bits >> 16) & 1u);
  return value == value ? up : all_bits | 0x400000u;
}
[[gnu::always_inline]] inline void store(float* to, Lanes value) { __builtin_memcpy(to, &value, sizeof value); }
[[gnu::always_inline]] inline void store(std::uint16_t* to, Lanes value) {
#if defined(__AVX512BF16__)
  const __m256bh halves = _mm512_cvtneps_pbh(value);
#elif defined(__AVX512F__)
  const __m256i halves = _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(rounded(value) >> 16));
#elif defined(__AVX2__)
  const auto words = reinterpret_cast<__m256i>(rounded(value) >> 16);
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
#else
  const Halves halves = __builtin_convertvector(rounded(value) >> 16, Halves);
#endif
  __builtin_memcpy(to, &halves, sizeof halves);
}

// a * b + c; one rounding where the level has it.
[[gnu::always_inline]] inline Lanes fma(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// 1 / x for x from 1 up, to 2e-7 of itself.
[[gnu::always_inline]] inline Lanes reciprocal(Lanes x) {
#if defined(__AVX512F__)
  const Lanes near = _mm512_rcp14_ps(x);  // 14 bits; a step of Newton's doubles them. A division takes 16 cycles
  return fma(near, fma(-x, near, all(1.0f)), near);
#else
  return 1.0f / x;
#endif
}

// The larger; b where either is NaN.
[[gnu::always_inline]] inline Lanes larger(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

[[gnu::always_inline]] inline float sum(Lanes value) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(value);
#else
  float part[kLanes];
  store(part, value);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  return part[0];
#endif
}

[[gnu::always_inline]] inline float largest(Lanes value) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(value);
#else
  float part[kLanes];
  store(part, value);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] = part[i] > part[i + width] ? part[i] : part[i + width];
  return part[0];
#endif
}

// The lower, or the upper, halves of two vectors lane by lane: a0 b0 a1 b1 ...
template <bool Upper>
[[gnu::always_inline]] inline Bits interleaved(Bits a, Bits b) {
#if defined(__clang__)
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, ((I % 2 * kLanes) + I / 2 + (Upper ? kLanes / 2 : 0))...);
  }(std::make_integer_sequence<int, kLanes>{});
#else
  Signed from{};
  for (int i = 0; i < kLanes; ++i) from[i] = i % 2 * kLanes + i / 2 + (Upper ? kLanes / 2 : 0);
  return __builtin_shuffle(a, b, from);
#endif
}

// Transposes a square of words: each step interleaves its first half with its second, which moves the index of a word
// by one bit; after as many steps as a row's index has bits, row and column have changed places.
[[gnu::always_inline]] inline void turn_square(Bits (&rows)[kLanes]) {
  for (int size = 1; size < kLanes; size *= 2) {
    Bits next[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleaved<false>(rows[i], rows[i + kLanes / 2]);
      next[2 * i + 1] = interleaved<true>(rows[i], rows[i + kLanes / 2]);
    }
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// All bits of the first `count` lanes, none of the others.
[[gnu::always_inline]] inline Bits first_lanes(std::int64_t count) {
  std::uint32_t mask[kLanes];
  for (int i = 0; i < kLanes; ++i) mask[i] = i < count ? ~0u : 0u;
  Bits out;
  __builtin_memcpy(&out, mask, sizeof out);
  return out;
}

// exp(x) for x up to 88, to 3e-7 of itself; 1.2e-38 and not less for x below -87. NaN stays NaN.
[[gnu::always_inline]] inline Lanes exponential(Lanes x) {
  constexpr float kToPowersOfTwo = 1.44269504f, kRound = 0x1.8p23f;  // adding kRound leaves whole numbers below
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  x = larger(all(-87.0f), x);
  const Lanes shifted = fma(x, all(kToPowersOfTwo), all(kRound)), whole = shifted - kRound;
  const Lanes rest = fma(whole, all(-kLn2Low), fma(whole, all(-kLn2High), x));  // within ln 2 / 2 of 0
  Lanes out = all(1.0f / 720);
  out = fma(out, rest, all(1.0f / 120));
  out = fma(out, rest, all(1.0f / 24));
  out = fma(out, rest, all(1.0f / 6));
  out = fma(out, rest, all(0.5f));
  out = fma(out, rest, all(1.0f));
  out = fma(out, rest, all(1.0f));
  return out * lanes((bits(shifted) + 127u) << 23);
}

// The normal distribution below x, and its density at x without the factor 1 / sqrt(2 pi).
struct Normal {
  Lanes below, density;
};

// The tail beyond z >= 0 is exp(-z^2 / 2) times a smooth function, here t times a polynomial in t = 1 / (1 + 0.35 z),
// fitted for the smallest relative error on [0, 15]: 3.2e-8.
[[gnu::always_inline]] inline Normal normal(Lanes x) {
  constexpr float kTail[] = {-0.029163632542f, 0.144059464335f, -0.25589928031f, 0.159390166402f, -0.023262085393f,
                             0.105574123561f,  0.119815655053f, 0.139864310622f, 0.139621257782f};
  const Lanes z = lanes(bits(x) & 0x7fffffffu);
  const Lanes density = exponential(-0.5f * z * z),
              t = reciprocal(fma(z < 100.0f ? z : all(100.0f), all(0.35f), all(1.0f)));
  Lanes tail = all(kTail[0]);
  for (int i = 1; i < 9; ++i) tail = fma(tail, t, all(kTail[i]));
  tail *= t * density;
  return {x < 0.0f ? tail : 1.0f - tail, density};
}

}  // namespace
}  // namespace leafkit
