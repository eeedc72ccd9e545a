#include <immintrin.h>

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

[[gnu::always_inline]] inline __m512i load_some(const float* from, std::int64_t left) {
  const __mmask16 mask = static_cast<__mmask16>(left >= 16 ? 0xffffu : left <= 0 ? 0u : (1u << left) - 1u);
  return _mm512_maskz_loadu_epi32(mask, from);
}

// Nearest bfloat16 of 16 floats, ties to even, NaN kept, in the low halves.
[[gnu::always_inline]] inline __m512i rounded(__m512i bits) {
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(bits), _mm512_castsi512_ps(bits), _CMP_UNORD_Q);
  return _mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc0));
}

void pack(Type type, const float* rows, std::int64_t stride, int count, std::int64_t dim, void* group, float* squares) {
  auto* words = static_cast<std::uint32_t*>(group);
  const bool halves = type == Type::bfloat16;
  const std::int64_t columns = halves ? 32 : 16, steps = halves ? (dim + 1) / 2 : dim;
  for (int first = 0; first < kGroup; first += 16) {
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < dim; i += columns) {
      __m512i block[16];
      for (int row = 0; row < 16; ++row) {
        const float* from = rows + (first + row) * stride + i;
        const std::int64_t left = first + row < count ? dim - i : 0;
        if (halves) {
          // Words of two neighbours: evens in the low halves, odds in the high ones.
          const __m512i low = rounded(load_some(from, left)), high = rounded(load_some(from + 16, left - 16));
          const __m512i take = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28,
                                                26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
          block[row] = _mm512_permutex2var_epi16(low, take, high);
        } else {
          block[row] = load_some(from, left);
        }
      }
      transpose(block);
      const std::int64_t at = halves ? i / 2 : i, some = steps - at < 16 ? steps - at : 16;
      for (std::int64_t column = 0; column < some; ++column) {
        _mm512_storeu_si512(words + (at + column) * kGroup + first, block[column]);
        if (halves) {
          const __m512 low = _mm512_castsi512_ps(_mm512_slli_epi32(block[column], 16));
          const __m512 high =
              _mm512_castsi512_ps(_mm512_and_si512(block[column], _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
          sum = _mm512_fmadd_ps(low, low, _mm512_fmadd_ps(high, high, sum));
        } else {
          const __m512 value = _mm512_castsi512_ps(block[column]);
          sum = _mm512_fmadd_ps(value, value, sum);
        }
      }
    }
    _mm512_storeu_ps(squares + first, sum);
  }
}

double dot(const float* a, const float* b, std::int64_t dim) {
  __m512d high = _mm512_setzero_pd(), low = _mm512_setzero_pd();
  for (std::int64_t i = 0; i < dim; i += 8) {
    const __mmask8 mask = static_cast<__mmask8>(dim - i < 8 ? (1u << (dim - i)) - 1u : 0xffu);
    const __m512d x = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, a + i));
    const __m512d y = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, b + i));
    const __m512d product = _mm512_mul_pd(x, y), sum = _mm512_add_pd(high, product), part = _mm512_sub_pd(sum, high);
    const __m512d lost = _mm512_add_pd(_mm512_sub_pd(high, _mm512_sub_pd(sum, part)), _mm512_sub_pd(product, part));
    low = _mm512_add_pd(low, lost);
    high = sum;
  }
  alignas(64) double highs[8], lows[8];
  _mm512_store_pd(highs, high);
  _mm512_store_pd(lows, low);
  double total = 0, rest = 0;
  for (int i = 0; i < 8; ++i) {
    const double sum = total + highs[i], part = sum - total;
    rest += (total - (sum - part)) + (highs[i] - part) + lows[i];
    total = sum;
  }
  // A sum that is not finite has lost its rest to NaN.
  return total - total == 0 ? total + rest : total;
}

// The sums of x[i] * y[i], four at once: one alone would wait for its own addition.
[[gnu::always_inline]] inline float product(const float* x, const float* y, std::int64_t dim) {
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  std::int64_t i = 0;
  for (; i + 64 <= dim; i += 64)
    unrolled<4>([&](auto s) LEAFKIT_INLINE {
      sum[s] = _mm512_fmadd_ps(_mm512_loadu_ps(x + i + 16 * s), _mm512_loadu_ps(y + i + 16 * s), sum[s]);
    });
  for (; i < dim; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(dim - i < 16 ? (1u << (dim - i)) - 1u : 0xffffu);
    sum[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_maskz_loadu_ps(mask, y + i), sum[0]);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

void row_dots(int queries, const float* query, std::int64_t stride, const float* row, std::int64_t dim, float* out) {
  for (int q = 0; q < queries; ++q) out[q] = product(query + q * stride, row, dim);
  out[queries] = product(row, row, dim);
}

}  // namespace

const Kernels kKernelsAvx512 = {
    Type::float32, {&tile<Float32>, &tile<Bfloat16>, &tile<Float16>, &tile<Int8>, &tile<Binary>}, &pack, &dot,
    &row_dots,
};

}  // namespace leafkit
