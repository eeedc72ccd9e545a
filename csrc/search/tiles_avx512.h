// search/tiles_avx512.h: what the AVX-512 tiles share: the loop, the end of a tile, and the choice by query count.
#pragma once

#include <immintrin.h>

#include "search/tiles.h"
#include "search/unrolled.h"

#define LEAFKIT_INLINE __attribute__((always_inline))

namespace leafkit {
namespace {  // unnamed: see base/views.h

[[gnu::always_inline]] inline __m512i broadcast(const TileIn& in, int q, std::int64_t step) {
  return _mm512_set1_epi32(static_cast<int>(in.queries[q * in.query_stride + step]));
}

[[gnu::always_inline]] inline __m512i words(const TileIn& in, std::int64_t step, int d) {
  return _mm512_loadu_si512(static_cast<const std::uint32_t*>(in.group) + step * kGroup + 16 * d);
}

// How sums begin and become scores. A type derives from one of these and has what it does at one step:
//   document(in, step, d): 16 documents; add(sum, query, document): the sum after it, query being 16 times one word.
struct RealSums {
  using Sum = __m512;
  [[gnu::always_inline]] static __m512 begin(const TileIn&, int) { return _mm512_setzero_ps(); }
  [[gnu::always_inline]] static __m512 score(const TileIn&, int, int, __m512 sum) { return sum; }
};

// Sums of integers are vectors of 16 by type: as __m512i, eight of 64 bits, GCC 12 moves them about in every step.
using Integers = std::int32_t __attribute__((vector_size(64)));

struct CodeSums {
  using Sum = Integers;
  [[gnu::always_inline]] static Integers begin(const TileIn& in, int d) {
    return reinterpret_cast<Integers>(_mm512_loadu_si512(in.start + 16 * d));
  }
  [[gnu::always_inline]] static __m512 score(const TileIn& in, int q, int d, Integers sum) {
    const __m512 real = _mm512_cvtepi32_ps(reinterpret_cast<__m512i>(sum));
    const __m512 scaled = _mm512_mul_ps(real, _mm512_loadu_ps(in.scale + 16 * d));
    return _mm512_mul_ps(scaled, _mm512_set1_ps(in.query_scale[q]));
  }
};

struct BitSums {
  using Sum = Integers;
  [[gnu::always_inline]] static Integers begin(const TileIn&, int) { return Integers{}; }
  [[gnu::always_inline]] static __m512 score(const TileIn& in, int, int, Integers sum) {
    return _mm512_cvtepi32_ps(reinterpret_cast<__m512i>(static_cast<std::int32_t>(in.dim) - 2 * sum));
  }
};

// Compares the sums of one query with its threshold, and writes the scores where one passes.
template <class Type>
[[gnu::always_inline]] inline void end_query(const TileIn& in, int q, const typename Type::Sum (&sum)[4],
                                             TileOut& out) {
  const __m512 threshold = _mm512_set1_ps(in.threshold[q]);
  __m512 score[4];
  std::uint64_t mask = 0;
  unrolled<4>([&](auto d) LEAFKIT_INLINE {
    score[d] = Type::score(in, q, d, sum[d]);
    mask |= static_cast<std::uint64_t>(_mm512_cmp_ps_mask(score[d], threshold, _CMP_NLT_UQ)) << (16 * d);
  });
  out.masks[q] = mask;
  if (mask != 0) unrolled<4>([&](auto d) LEAFKIT_INLINE { _mm512_store_ps(out.scores[q] + 16 * d, score[d]); });
}

// Never inlined: inside a larger function the compiler keeps some of the sums in memory.
template <class Type, int Q>
[[gnu::noinline]] void tile_of(const TileIn& in, TileOut& out) {
  typename Type::Sum sum[Q][4];
  unrolled<Q>([&](auto q)
                  LEAFKIT_INLINE { unrolled<4>([&](auto d) LEAFKIT_INLINE { sum[q][d] = Type::begin(in, d); }); });
  for (std::int64_t i = 0; i < in.steps; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(in.ahead + 64 * i), _MM_HINT_T1);
    decltype(Type::document(in, i, 0)) document[4];
    unrolled<4>([&](auto d) LEAFKIT_INLINE { document[d] = Type::document(in, i, d); });
    unrolled<Q>([&](auto q) LEAFKIT_INLINE {
      const __m512i query = broadcast(in, q, i);
      unrolled<4>([&](auto d) LEAFKIT_INLINE { sum[q][d] = Type::add(sum[q][d], query, document[d]); });
    });
  }
  unrolled<Q>([&](auto q) LEAFKIT_INLINE { end_query<Type>(in, q, sum[q], out); });
}

template <class Type>
void tile(int queries, const TileIn& in, TileOut& out) {
  as_constant<kTileQueries>(queries, [&](auto count) { tile_of<Type, count>(in, out); });
}

}  // namespace
}  // namespace leafkit
