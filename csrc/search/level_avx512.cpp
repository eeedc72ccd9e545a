#include <immintrin.h>

#include "search/encode.h"
#include "search/tiles.h"
#include "search/tiles_avx512.h"

namespace leafkit {
namespace {

struct Float32 : RealSums {
  [[gnu::always_inline]] static __m512 document(const TileIn& in, std::int64_t i, int d) {
    return _mm512_castsi512_ps(words(in, i, d));
  }
  [[gnu::always_inline]] static __m512 add(__m512 sum, __m512i query, __m512 document) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(query), document, sum);
  }
};

struct Float16 : Float32 {
  [[gnu::always_inline]] static __m512 document(const TileIn& in, std::int64_t i, int d) {
    const std::uint16_t* lanes = static_cast<const std::uint16_t*>(in.group) + i * kGroup + 16 * d;
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes)));
  }
};

// Without AVX512_BF16: both halves widened; a product of two bfloat16 is exact in float32.
struct Bfloat16 : RealSums {
  [[gnu::always_inline]] static __m512i document(const TileIn& in, std::int64_t i, int d) { return words(in, i, d); }
  [[gnu::always_inline]] static __m512 add(__m512 sum, __m512i query, __m512i document) {
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(query, 16)),
                          _mm512_castsi512_ps(_mm512_slli_epi32(document, 16)), sum);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(query, high)),
                           _mm512_castsi512_ps(_mm512_and_si512(document, high)), sum);
  }
};

// Without VNNI: bytes widened to 16 bits, so that no pair of products can saturate.
struct Int8 : CodeSums {
  [[gnu::always_inline]] static __m512i document(const TileIn& in, std::int64_t i, int d) { return words(in, i, d); }
  [[gnu::always_inline]] static Integers add(Integers sum, __m512i query, __m512i document) {
    const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(document, 8), 8), odd = _mm512_srai_epi16(document, 8);
    const __m512i evens = _mm512_madd_epi16(_mm512_and_si512(query, _mm512_set1_epi16(0xff)), even);
    const __m512i odds = _mm512_madd_epi16(_mm512_srli_epi16(query, 8), odd);
    return sum + reinterpret_cast<Integers>(evens) + reinterpret_cast<Integers>(odds);
  }
};

// Without VPOPCNTDQ: bits counted by nibble, a table of 16 in every 128 bits.
struct Binary : BitSums {
  [[gnu::always_inline]] static __m512i document(const TileIn& in, std::int64_t i, int d) { return words(in, i, d); }
  [[gnu::always_inline]] static Integers add(Integers sum, __m512i query, __m512i document) {
    const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(0x0f), differ = _mm512_xor_si512(document, query);
    const __m512i low = _mm512_shuffle_epi8(table, _mm512_and_si512(differ, nibble));
    const __m512i high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(differ, 4), nibble));
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_add_epi8(low, high), _mm512_set1_epi8(1));
    return sum + reinterpret_cast<Integers>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
};

// Rows of 16 words become columns.
[[gnu::always_inline]] inline void transpose(__m512i (&rows)[16]) {
  __m512i pairs[16], fours[16];
  unrolled<8>([&](auto i) LEAFKIT_INLINE {
    pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  });
  unrolled<4>([&](auto i) LEAFKIT_INLINE {
    fours[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
    fours[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
    fours[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    fours[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
  });
  // fours[4 i + j] holds, in its four parts p, column 4 p + j of rows 4 i to 4 i + 3.
  unrolled<4>([&](auto j) LEAFKIT_INLINE {
    const __m512i even_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    rows[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  });
}

void transpose(const std::uint32_t* words, std::int64_t stride, std::int64_t steps, std::uint32_t* group) {
  for (std::int64_t i = 0; i < steps;
       i += 16) {  // rows are written in whole cache lines: reading past a last step is safe
    __m512i block[16];
    unrolled<16>([&](auto row) LEAFKIT_INLINE { block[row] = _mm512_loadu_si512(words + row * stride + i); });
    transpose(block);
    const std::int64_t some = steps - i < 16 ? steps - i : 16;
    for (std::int64_t column = 0; column < some; ++column)
      _mm512_storeu_si512(group + (i + column) * kGroup, block[column]);
  }
}

// A sum in two parts: what the additions lost (Knuth's two-sum) beside it.
struct Pair {
  __m512d high = _mm512_setzero_pd(), low = _mm512_setzero_pd();
  [[gnu::always_inline]] void add(__m512d term) {
    const __m512d sum = _mm512_add_pd(high, term), part = _mm512_sub_pd(sum, high);
    low = _mm512_add_pd(low, _mm512_add_pd(_mm512_sub_pd(high, _mm512_sub_pd(sum, part)), _mm512_sub_pd(term, part)));
    high = sum;
  }
};

DotSum dot(const float* a, const float* b, std::int64_t dim) {
  Pair sum[2];  // one alone would wait for its own addition
  __m512d magnitude = _mm512_setzero_pd();
  const auto product = [&](std::int64_t i, __mmask8 mask) LEAFKIT_INLINE {
    const __m512d term = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, a + i)),
                                       _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, b + i)));
    magnitude = _mm512_add_pd(magnitude, _mm512_abs_pd(term));
    return term;
  };
  std::int64_t i = 0;
  for (; i + 16 <= dim; i += 16) {
    sum[0].add(product(i, 0xff));
    sum[1].add(product(i + 8, 0xff));
  }
  for (; i < dim; i += 8) sum[0].add(product(i, static_cast<__mmask8>(dim - i < 8 ? (1u << (dim - i)) - 1u : 0xffu)));
  const __m512d lost = _mm512_add_pd(sum[0].low, sum[1].low);
  sum[0].low = _mm512_setzero_pd();
  sum[0].add(sum[1].high);
  alignas(64) double highs[8], lows[8], each[8];
  _mm512_store_pd(highs, sum[0].high);
  _mm512_store_pd(lows, _mm512_add_pd(lost, sum[0].low));
  _mm512_store_pd(each, magnitude);
  double total = 0, rest = 0, magnitudes = 0;
  for (int lane = 0; lane < 8; ++lane) {
    const double more = total + highs[lane], part = more - total;
    rest += (total - (more - part)) + (highs[lane] - part) + lows[lane];
    total = more;
    magnitudes += each[lane];
  }
  return {total, rest, magnitudes};
}

// Four sums of each kind: one alone would wait for its own addition. What comes later in memory is fetched.
float row_dot(const float* query, const float* row, std::int64_t dim, float* itself) {
  constexpr std::int64_t kAhead = 2048;  // floats
  __m512 sum[4] = {}, square[4] = {};
  std::int64_t i = 0;
  for (; i + 64 <= dim; i += 64)
    unrolled<4>([&](auto s) LEAFKIT_INLINE {
      const __m512 value = _mm512_loadu_ps(row + i + 16 * s);
      _mm_prefetch(reinterpret_cast<const char*>(row + i + 16 * s + kAhead), _MM_HINT_T0);
      sum[s] = _mm512_fmadd_ps(_mm512_loadu_ps(query + i + 16 * s), value, sum[s]);
      square[s] = _mm512_fmadd_ps(value, value, square[s]);
    });
  for (; i < dim; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(dim - i < 16 ? (1u << (dim - i)) - 1u : 0xffffu);
    const __m512 value = _mm512_maskz_loadu_ps(mask, row + i);
    sum[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, query + i), value, sum[0]);
    square[0] = _mm512_fmadd_ps(value, value, square[0]);
  }
  const auto total = [](const __m512(&four)[4]) LEAFKIT_INLINE {
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(four[0], four[1]), _mm512_add_ps(four[2], four[3])));
  };
  *itself = total(square);
  return total(sum);
}

}  // namespace

const Kernels kKernelsAvx512 = {
    .in_place = Type::float32,
    .tile = {&tile<Float32>, &tile<Bfloat16>, &tile<Float16>, &tile<Int8>, &tile<Binary>},
    .tile_queries = {kTileQueries, kTileQueries, kTileQueries, kTileQueries, kTileQueries},
    .enter = &nothing,
    .leave = &nothing,
    .encode = &encode,
    .transpose = &transpose,
    .dot = &dot,
    .row_dot = &row_dot,
};

}  // namespace leafkit
