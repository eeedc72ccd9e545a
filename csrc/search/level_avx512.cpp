#include <immintrin.h>

#include "search/levels.h"
#include "search/scan.h"

namespace leafkit {
namespace {

// Lanes are added in a fixed order, the same in every tile: halves, then as AVX2 does.
[[gnu::always_inline]] inline float sum_lanes(__m512 v) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), high);
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

struct Avx512 {
  static constexpr int kQueries = 6, kDocuments = 4;  // 24 sums, 6 queries and 1 document: 31 of 32 registers
  template <int Q, int D>
  [[gnu::always_inline]] static inline void scores(const float* query, std::int64_t query_stride, const float* document,
                                                   std::int64_t document_stride, std::int64_t dim, float* out,
                                                   std::int64_t out_stride) {
    __m512 sum[Q][D];
#pragma GCC unroll 6
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d) sum[q][d] = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < dim; i += 16) {
      const int left = dim - i < 16 ? static_cast<int>(dim - i) : 16;
      const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1u);  // lanes past the end read as 0
      __m512 a[Q];
#pragma GCC unroll 6
      for (int q = 0; q < Q; ++q) a[q] = _mm512_maskz_loadu_ps(mask, query + q * query_stride + i);
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d) {
        const __m512 b = _mm512_maskz_loadu_ps(mask, document + d * document_stride + i);
#pragma GCC unroll 6
        for (int q = 0; q < Q; ++q) sum[q][d] = _mm512_fmadd_ps(a[q], b, sum[q][d]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int d = 0; d < D; ++d) out[q * out_stride + d] = sum_lanes(sum[q][d]);
  }
};

}  // namespace

const ScoreBlock kScoreAvx512 = &score_block<Avx512>;

}  // namespace leafkit
