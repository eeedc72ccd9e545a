// search/encode.h: one float32 row in the form of a type. Every level file holds its own copy of this code, with
// vectors of its registers' size; the codes are the same on all levels.
#pragma once

#include <cstdint>
#include <cstring>

#include "search/tiles.h"

namespace leafkit {
namespace {  // unnamed: see base/views.h

#if defined(__AVX512F__)
constexpr int kVector = 64;  // bytes
#elif defined(__AVX2__)
constexpr int kVector = 32;
#else
constexpr int kVector = 16;
#endif
constexpr int kLanes = kVector / 4;
using Floats = float __attribute__((vector_size(kVector)));
using Words = std::uint32_t __attribute__((vector_size(kVector)));
using Ints = std::int32_t __attribute__((vector_size(kVector)));
using Halves = std::uint16_t __attribute__((vector_size(kVector / 2)));
using Codes = std::int8_t __attribute__((vector_size(kVector / 4)));

// A vector of values, those past the last being `otherwise`. Rows are mostly read one after another: what comes later
// is fetched.
[[gnu::always_inline]] inline Floats load_floats(const float* from, std::int64_t left, float otherwise = 0) {
  constexpr std::int64_t kAhead = 2048;  // floats
  __builtin_prefetch(from + kAhead, 0, 3);
  Floats out;
  if (left >= kLanes) {
    std::memcpy(&out, from, sizeof out);
  } else {
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = lane < left ? from[lane] : otherwise;
  }
  return out;
}

// To the nearest, ties to even; NaN stays NaN, what is too large becomes infinite.
[[gnu::always_inline]] inline Words bfloat16_of(Floats value) {
  const Words bits = reinterpret_cast<Words>(value);
  const Words nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return value != value ? (bits >> 16) | 0x40u : nearest;
}

[[gnu::always_inline]] inline Words float16_of(Floats value) {
  const Words bits = reinterpret_cast<Words>(value), magnitude = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u;
  // Below 2^-14 in units of 2^-24: the sum with 2^23 rounds.
  const Words units = reinterpret_cast<Words>(reinterpret_cast<Floats>(magnitude) * 0x1p24f + 0x1p23f) - 0x4b000000u;
  const Words normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const Words infinite = Words{} + 0x7c00u, nan = Words{} + 0x7e00u;
  const Words finite = magnitude < 0x38800000u ? units : normal;
  return sign | (magnitude > 0x7f800000u ? nan : magnitude >= 0x47800000u ? infinite : finite);
}

[[gnu::always_inline]] inline Floats from_float16_words(Words half) {
  const Words sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  const Floats small = __builtin_convertvector(reinterpret_cast<Ints>(magnitude), Floats) * 0x1p-24f;
  const Words normal = (magnitude << 13) + (112u << 23), special = (magnitude << 13) | 0x7f800000u;
  const Words value = magnitude < 0x400u ? reinterpret_cast<Words>(small) : magnitude >= 0x7c00u ? special : normal;
  return reinterpret_cast<Floats>(sign | value);
}

// Whole steps of a scale, at most 127 either way, NaN as 0: adding 1.5 x 2^23 rounds to the nearest, ties to even.
[[gnu::always_inline]] inline Ints steps_of_scale(Floats value, Floats scale) {
  const Floats most = Floats{} + 127.0f, zero = Floats{};
  Floats steps = value / scale;
  steps = steps == steps ? steps : zero;
  steps = steps > most ? most : steps;
  steps = steps < -most ? -most : steps;
  return reinterpret_cast<Ints>(steps + 0x1.8p23f) - 0x4b400000;
}

// The largest magnitude over 127, or 1 where that is no scale.
[[gnu::always_inline]] inline float own_scale(const float* row, std::int64_t dim) {
  Words most{};
  for (std::int64_t i = 0; i < dim; i += kLanes) {
    const Words magnitude = reinterpret_cast<Words>(load_floats(row + i, dim - i)) & 0x7fffffffu;
    most = magnitude > most ? magnitude : most;
  }
  std::uint32_t largest = 0;
  for (int lane = 0; lane < kLanes; ++lane) largest = most[lane] > largest ? most[lane] : largest;
  if (largest >= 0x7f800000u) return 1.0f;  // infinite or NaN
  float scale;
  std::memcpy(&scale, &largest, sizeof scale);
  scale /= 127.0f;
  return scale > 0 ? scale : 1.0f;
}

// Squared lengths, one lane each.
struct Lengths {
  Floats residual{}, norm{};
  [[gnu::always_inline]] void add(Floats value, Floats stands_for) {
    const Floats away = value - stands_for;
    residual += away * away;
    norm += stands_for * stands_for;
  }
  [[gnu::always_inline]] static float total(Floats lanes) {
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    return sum;
  }
};

[[gnu::always_inline]] inline Encoded encoded(const Lengths& lengths, float scale = 1, std::int32_t code_sum = 0) {
  return {Lengths::total(lengths.residual), Lengths::total(lengths.norm), scale, code_sum};
}

Encoded encode_floats(const float* row, std::int64_t dim, float* out) {
  Lengths lengths;
  for (std::int64_t i = 0; i < dim; i += kLanes) {
    const Floats value = load_floats(row + i, dim - i);
    lengths.norm += value * value;
    std::memcpy(out + i, &value, sizeof value);
  }
  return encoded(lengths);
}

Encoded encode_halves(Type type, const float* row, std::int64_t dim, std::uint16_t* out) {
  Lengths lengths;
  for (std::int64_t i = 0; i < dim; i += kLanes) {
    const Floats value = load_floats(row + i, dim - i);
    Words half;
    if (type == Type::bfloat16) {
      half = bfloat16_of(value);
      lengths.add(value, reinterpret_cast<Floats>(half << 16));
    } else {
      half = float16_of(value);
      lengths.add(value, from_float16_words(half));
    }
    const Halves narrow = __builtin_convertvector(half, Halves);
    std::memcpy(out + i, &narrow, sizeof narrow);
  }
  return encoded(lengths);
}

Encoded encode_codes(const float* row, std::int64_t dim, const float* dim_scale, std::int8_t* out) {
  const float own = dim_scale == nullptr ? own_scale(row, dim) : 1.0f;
  Lengths lengths;
  Ints sum{};
  for (std::int64_t i = 0; i < dim; i += kLanes) {
    const Floats value = load_floats(row + i, dim - i);
    const Floats scale = dim_scale == nullptr ? Floats{} + own : load_floats(dim_scale + i, dim - i, 1.0f);
    const Ints steps = steps_of_scale(value, scale);
    lengths.add(value, __builtin_convertvector(steps, Floats) * scale);
    sum += steps;
    const Codes narrow = __builtin_convertvector(steps, Codes);
    std::memcpy(out + i, &narrow, sizeof narrow);
  }
  std::int32_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
  return encoded(lengths, own, total);
}

Encoded encode_bits(const float* row, std::int64_t dim, std::uint32_t* out) {
  for (std::int64_t i = 0; i < dim; i += 32) {
    std::uint32_t word = 0;
    for (int bit = 0; bit < 32; ++bit) word |= static_cast<std::uint32_t>(i + bit < dim && row[i + bit] > 0) << bit;
    out[i / 32] = word;
  }
  constexpr float kNothingIsKnown = __builtin_inff();
  return {kNothingIsKnown, kNothingIsKnown, 1.0f, 0};
}

Encoded encode(Type type, const float* row, std::int64_t dim, const float* dim_scale, std::uint32_t* words) {
  switch (type) {
    case Type::bfloat16:
    case Type::float16:
      return encode_halves(type, row, dim, reinterpret_cast<std::uint16_t*>(words));
    case Type::int8:
      return encode_codes(row, dim, dim_scale, reinterpret_cast<std::int8_t*>(words));
    case Type::binary:
      return encode_bits(row, dim, words);
    default:
      return encode_floats(row, dim, reinterpret_cast<float*>(words));
  }
}

}  // namespace
}  // namespace leafkit
