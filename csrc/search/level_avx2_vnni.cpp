// The int8 tile for CPUs with AVX-VNNI and no AVX-512.
#include <immintrin.h>

#include "search/tiles.h"
#include "search/tiles_avx2.h"

namespace leafkit {
namespace {

struct Int8 : CodeSums {
  [[gnu::always_inline]] static Integers add(Integers part, __m256i query, __m256i document) {
    return reinterpret_cast<Integers>(_mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(part), query, document));
  }
};

}  // namespace

const Tile kInt8Avx2 = &tile<Int8>;

}  // namespace leafkit
