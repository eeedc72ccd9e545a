// search/tiles_avx2.h: what the AVX2 tiles share: the loop, the end of a tile, and the choice by query count.
//
// 64 documents are taken 16 at a time, so that 6 queries x 2 vectors of sums, 2 documents and a query are in 16
// registers; before one or two queries more of them, because then memory is what a scan waits for.
#pragma once

#include <immintrin.h>

#include <limits>

#include "search/tiles.h"
#include "search/unrolled.h"

#define LEAFKIT_INLINE __attribute__((always_inline))

namespace leafkit {
namespace {  // unnamed: see base/views.h

using Integers = std::int32_t __attribute__((vector_size(32)));  // typed lanes: see search/tiles_avx512.h

[[gnu::always_inline]] inline __m256i broadcast(const TileIn& in, int q, std::int64_t step) {
  return _mm256_set1_epi32(static_cast<int>(in.queries[q * in.query_stride + step]));
}

[[gnu::always_inline]] inline __m256i words(const TileIn& in, std::int64_t step, int lane) {
  const auto* word = static_cast<const std::uint32_t*>(in.group) + step * kGroup + lane;
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(word));
}

// How sums begin and become scores. A type derives from one of these and has what it does at one step:
//   document(in, step, lane): 8 documents; add(part, query, document): the part of a sum after it.
// Parts are joined with the sum after so many steps.
constexpr std::int64_t kAllSteps = std::numeric_limits<std::int64_t>::max() / 2;

struct RealSums {
  using Sum = __m256;
  using Part = __m256;
  static constexpr std::int64_t kStepsAtOnce = kAllSteps;
  [[gnu::always_inline]] static __m256 join(__m256 sum, __m256 part) { return _mm256_add_ps(sum, part); }
  [[gnu::always_inline]] static __m256 begin(const TileIn&, int) { return _mm256_setzero_ps(); }
  [[gnu::always_inline]] static __m256 score(const TileIn&, int, int, __m256 sum) { return sum; }
};

struct CodeSums {
  using Sum = Integers;
  using Part = Integers;
  static constexpr std::int64_t kStepsAtOnce = kAllSteps;
  [[gnu::always_inline]] static Integers begin(const TileIn& in, int lane) {
    return reinterpret_cast<Integers>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.start + lane)));
  }
  [[gnu::always_inline]] static Integers join(Integers sum, Integers part) { return sum + part; }
  [[gnu::always_inline]] static __m256 score(const TileIn& in, int q, int lane, Integers sum) {
    const __m256 real = _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(sum));
    return _mm256_mul_ps(_mm256_mul_ps(real, _mm256_loadu_ps(in.scale + lane)), _mm256_set1_ps(in.query_scale[q]));
  }
  [[gnu::always_inline]] static __m256i document(const TileIn& in, std::int64_t i, int lane) {
    return words(in, i, lane);
  }
};

// Never inlined: inside a larger function the compiler keeps some of the sums in memory.
template <class Type, int Q>
[[gnu::noinline]] void tile_of(const TileIn& in, TileOut& out) {
  constexpr int kVectors = Q == 1 ? 8 : Q == 2 ? 4 : 2;
  for (int q = 0; q < Q; ++q) out.masks[q] = 0;
  for (int first = 0; first < kGroup; first += 8 * kVectors) {
    typename Type::Sum sum[Q][kVectors];
    unrolled<Q>([&](auto q) LEAFKIT_INLINE {
      unrolled<kVectors>([&](auto d) LEAFKIT_INLINE { sum[q][d] = Type::begin(in, first + 8 * d); });
    });
    for (std::int64_t begin = 0; begin < in.steps; begin += Type::kStepsAtOnce) {
      const std::int64_t left = in.steps - begin, end = begin + (left < Type::kStepsAtOnce ? left : Type::kStepsAtOnce);
      typename Type::Part part[Q][kVectors] = {};
      for (std::int64_t i = begin; i < end; ++i) {
        unrolled<Q>([&](auto q) LEAFKIT_INLINE {
          const __m256i query = broadcast(in, q, i);
          unrolled<kVectors>([&](auto d) LEAFKIT_INLINE {
            part[q][d] = Type::add(part[q][d], query, Type::document(in, i, first + 8 * d));
          });
        });
      }
      unrolled<Q>([&](auto q) LEAFKIT_INLINE {
        unrolled<kVectors>([&](auto d) LEAFKIT_INLINE { sum[q][d] = Type::join(sum[q][d], part[q][d]); });
      });
    }
    unrolled<Q>([&](auto q) LEAFKIT_INLINE {
      const __m256 threshold = _mm256_set1_ps(in.threshold[q]);
      unrolled<kVectors>([&](auto d) LEAFKIT_INLINE {
        const __m256 score = Type::score(in, q, first + 8 * d, sum[q][d]);
        const int mask = _mm256_movemask_ps(_mm256_cmp_ps(score, threshold, _CMP_NLT_UQ));
        out.masks[q] |= static_cast<std::uint64_t>(static_cast<unsigned>(mask)) << (first + 8 * d);
        if (mask != 0) _mm256_store_ps(out.scores[q] + first + 8 * d, score);
      });
    });
  }
}

template <class Type>
void tile(int queries, const TileIn& in, TileOut& out) {
  as_constant<kTileQueries>(queries, [&](auto count) { tile_of<Type, count>(in, out); });
}

}  // namespace
}  // namespace leafkit
