#include <immintrin.h>

#include "search/levels.h"
#include "search/scan.h"

namespace leafkit {
namespace {

// Lanes are added in a fixed order, the same in every tile.
[[gnu::always_inline]] inline float sum_lanes(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

struct Avx2 {
  static constexpr int kQueries = 3, kDocuments = 4;  // 12 sums, 3 queries and 1 document: 16 registers, 7 loads a step
  template <int Q, int D>
  [[gnu::always_inline]] static inline void scores(const float* query, std::int64_t query_stride, const float* document,
                                                   std::int64_t document_stride, std::int64_t dim, float* out,
                                                   std::int64_t out_stride) {
    __m256 sum[Q][D];
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d) sum[q][d] = _mm256_setzero_ps();
    std::int64_t i = 0;
    for (; i + 8 <= dim; i += 8) {
      __m256 a[Q];
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) a[q] = _mm256_loadu_ps(query + q * query_stride + i);
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d) {
        const __m256 b = _mm256_loadu_ps(document + d * document_stride + i);
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) sum[q][d] = _mm256_fmadd_ps(a[q], b, sum[q][d]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int d = 0; d < D; ++d) {
        float total = sum_lanes(sum[q][d]);
        for (std::int64_t j = i; j < dim; ++j) total += query[q * query_stride + j] * document[d * document_stride + j];
        out[q * out_stride + d] = total;
      }
  }
};

}  // namespace

const ScoreBlock kScoreAvx2 = &score_block<Avx2>;

}  // namespace leafkit
