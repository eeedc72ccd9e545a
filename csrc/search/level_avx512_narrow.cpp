// Tiles for CPUs with the narrow instructions: AVX512_BF16, AVX512_VNNI, AVX512_VPOPCNTDQ. Each is chosen by itself.
#include <immintrin.h>

#include "search/tiles.h"
#include "search/tiles_avx512.h"

namespace leafkit {
namespace {

struct Bfloat16 : RealSums {
  [[gnu::always_inline]] static __m512i document(const TileIn& in, std::int64_t i, int d) { return words(in, i, d); }
  [[gnu::always_inline]] static __m512 add(__m512 sum, __m512i query, __m512i document) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(query), reinterpret_cast<__m512bh>(document));
  }
};

struct Int8 : CodeSums {
  [[gnu::always_inline]] static __m512i document(const TileIn& in, std::int64_t i, int d) { return words(in, i, d); }
  [[gnu::always_inline]] static Integers add(Integers sum, __m512i query, __m512i document) {
    return reinterpret_cast<Integers>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), query, document));
  }
};

struct Binary : BitSums {
  [[gnu::always_inline]] static __m512i document(const TileIn& in, std::int64_t i, int d) { return words(in, i, d); }
  [[gnu::always_inline]] static Integers add(Integers sum, __m512i query, __m512i document) {
    return sum + reinterpret_cast<Integers>(_mm512_popcnt_epi32(_mm512_xor_si512(document, query)));
  }
};

}  // namespace

const Tile kBfloat16Avx512 = &tile<Bfloat16>;
const Tile kInt8Avx512 = &tile<Int8>;
const Tile kBinaryAvx512 = &tile<Binary>;

}  // namespace leafkit
