#include <immintrin.h>

#include "search/encode.h"
#include "search/tiles.h"
#include "search/tiles_avx2.h"

namespace leafkit {
namespace {

struct Float32 : RealSums {
  [[gnu::always_inline]] static __m256 document(const TileIn& in, std::int64_t i, int lane) {
    return _mm256_castsi256_ps(words(in, i, lane));
  }
  [[gnu::always_inline]] static __m256 add(__m256 sum, __m256i query, __m256 document) {
    return _mm256_fmadd_ps(_mm256_castsi256_ps(query), document, sum);
  }
};

struct Float16 : Float32 {
  [[gnu::always_inline]] static __m256 document(const TileIn& in, std::int64_t i, int lane) {
    const auto* half = static_cast<const std::uint16_t*>(in.group) + i * kGroup + lane;
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half)));
  }
};

struct Bfloat16 : RealSums {  // a product of two bfloat16 is exact in float32
  [[gnu::always_inline]] static __m256i document(const TileIn& in, std::int64_t i, int lane) {
    return words(in, i, lane);
  }
  [[gnu::always_inline]] static __m256 add(__m256 sum, __m256i query, __m256i document) {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    sum = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(query, 16)),
                          _mm256_castsi256_ps(_mm256_slli_epi32(document, 16)), sum);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(query, high)),
                           _mm256_castsi256_ps(_mm256_and_si256(document, high)), sum);
  }
};

struct Int8 : CodeSums {  // bytes widened to 16 bits, so that no pair of products can saturate
  [[gnu::always_inline]] static Integers add(Integers part, __m256i query, __m256i document) {
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(document, 8), 8), odd = _mm256_srai_epi16(document, 8);
    const __m256i evens = _mm256_madd_epi16(_mm256_and_si256(query, _mm256_set1_epi16(0xff)), even);
    const __m256i odds = _mm256_madd_epi16(_mm256_srli_epi16(query, 8), odd);
    return part + reinterpret_cast<Integers>(evens) + reinterpret_cast<Integers>(odds);
  }
};

struct Binary {  // bits counted by nibble, a table of 16 in each half; counts of bytes are joined before they overflow
  using Sum = Integers;
  using Part = __m256i;
  static constexpr std::int64_t kStepsAtOnce = 31;  // of at most 8 a byte
  [[gnu::always_inline]] static Integers begin(const TileIn&, int) { return Integers{}; }
  [[gnu::always_inline]] static Integers join(Integers sum, __m256i part) {
    const __m256i pairs = _mm256_maddubs_epi16(part, _mm256_set1_epi8(1));
    return sum + reinterpret_cast<Integers>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  [[gnu::always_inline]] static __m256 score(const TileIn& in, int, int, Integers sum) {
    return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(static_cast<std::int32_t>(in.dim) - 2 * sum));
  }
  [[gnu::always_inline]] static __m256i document(const TileIn& in, std::int64_t i, int lane) {
    return words(in, i, lane);
  }
  [[gnu::always_inline]] static __m256i add(__m256i part, __m256i query, __m256i document) {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i nibble = _mm256_set1_epi8(0x0f), differ = _mm256_xor_si256(document, query);
    const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, nibble));
    const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(differ, 4), nibble));
    return _mm256_add_epi8(part, _mm256_add_epi8(low, high));
  }
};

// Rows of 8 floats become columns.
[[gnu::always_inline]] inline void transpose(__m256 (&rows)[8]) {
  __m256 pairs[8], fours[8];
  unrolled<4>([&](auto i) LEAFKIT_INLINE {
    pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
    pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
  });
  unrolled<2>([&](auto i) LEAFKIT_INLINE {
    fours[4 * i] = _mm256_shuffle_ps(pairs[4 * i], pairs[4 * i + 2], 0x44);
    fours[4 * i + 1] = _mm256_shuffle_ps(pairs[4 * i], pairs[4 * i + 2], 0xee);
    fours[4 * i + 2] = _mm256_shuffle_ps(pairs[4 * i + 1], pairs[4 * i + 3], 0x44);
    fours[4 * i + 3] = _mm256_shuffle_ps(pairs[4 * i + 1], pairs[4 * i + 3], 0xee);
  });
  unrolled<4>([&](auto j) LEAFKIT_INLINE {
    rows[j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
    rows[4 + j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
  });
}

void transpose(const std::uint32_t* words, std::int64_t stride, std::int64_t steps, std::uint32_t* group) {
  for (int first = 0; first < kPart; first += 8) {
    for (std::int64_t i = 0; i < steps;
         i += 8) {  // rows are written in whole cache lines: reading past a last step is safe
      __m256 block[8];
      unrolled<8>([&](auto row) LEAFKIT_INLINE {
        block[row] = _mm256_loadu_ps(reinterpret_cast<const float*>(words + (first + row) * stride + i));
      });
      transpose(block);
      const std::int64_t some = steps - i < 8 ? steps - i : 8;
      for (std::int64_t column = 0; column < some; ++column)
        _mm256_storeu_ps(reinterpret_cast<float*>(group + (i + column) * kGroup + first), block[column]);
    }
  }
}

DotSum dot(const float* a, const float* b, std::int64_t dim) {
  __m256d high = _mm256_setzero_pd(), low = _mm256_setzero_pd(), magnitude = _mm256_setzero_pd();
  double total = 0, rest = 0, magnitudes = 0;
  const auto add = [&](double term) LEAFKIT_INLINE {
    const double sum = total + term, part = sum - total;
    rest += (total - (sum - part)) + (term - part);
    total = sum;
  };
  std::int64_t i = 0;
  for (; i + 4 <= dim; i += 4) {
    const __m256d x = _mm256_cvtps_pd(_mm_loadu_ps(a + i)), y = _mm256_cvtps_pd(_mm_loadu_ps(b + i));
    const __m256d product = _mm256_mul_pd(x, y), sum = _mm256_add_pd(high, product), part = _mm256_sub_pd(sum, high);
    const __m256d lost = _mm256_add_pd(_mm256_sub_pd(high, _mm256_sub_pd(sum, part)), _mm256_sub_pd(product, part));
    low = _mm256_add_pd(low, lost);
    high = sum;
    magnitude = _mm256_add_pd(magnitude, _mm256_andnot_pd(_mm256_set1_pd(-0.0), product));
  }
  for (; i < dim; ++i) {
    const double product = static_cast<double>(a[i]) * static_cast<double>(b[i]);
    add(product);
    magnitudes += product < 0 ? -product : product;
  }
  alignas(32) double highs[4], lows[4], each[4];
  _mm256_store_pd(highs, high);
  _mm256_store_pd(lows, low);
  _mm256_store_pd(each, magnitude);
  for (int lane = 0; lane < 4; ++lane) {
    add(highs[lane]);
    rest += lows[lane];
    magnitudes += each[lane];
  }
  return {total, rest, magnitudes};
}

[[gnu::always_inline]] inline float total(const __m256 (&sum)[4]) {
  const __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// Four sums of each kind: one alone would wait for its own addition. What comes later in memory is fetched.
float row_dot(const float* query, const float* row, std::int64_t dim, float* itself) {
  constexpr std::int64_t kAhead = 2048;  // floats
  __m256 sum[4] = {}, square[4] = {};
  std::int64_t i = 0;
  for (; i + 32 <= dim; i += 32)
    unrolled<4>([&](auto s) LEAFKIT_INLINE {
      const __m256 value = _mm256_loadu_ps(row + i + 8 * s);
      if (s % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(row + i + 8 * s + kAhead), _MM_HINT_T0);
      sum[s] = _mm256_fmadd_ps(_mm256_loadu_ps(query + i + 8 * s), value, sum[s]);
      square[s] = _mm256_fmadd_ps(value, value, square[s]);
    });
  float out = total(sum);
  *itself = total(square);
  for (; i < dim; ++i) {
    out += query[i] * row[i];
    *itself += row[i] * row[i];
  }
  return out;
}

}  // namespace

const Kernels kKernelsAvx2 = {
    .in_place = Type::float32,
    .tile = {&tile<Float32>, &tile<Bfloat16>, &tile<Float16>, &tile<Int8>, &tile<Binary>},
    .tile_queries = {kTileQueries, 4, kTileQueries, 4, 4},  // widening takes registers
    .enter = &nothing,
    .leave = &nothing,
    .encode = &encode,
    .transpose = &transpose,
    .dot = &dot,
    .row_dot = &row_dot,
};

}  // namespace leafkit
