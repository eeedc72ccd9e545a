// What one core can do at most: bytes read in one stream, and the multiply instructions that a scan is made of.
// Compiled and called by limits.py for the machine that it runs on.
#include <immintrin.h>
#include <sys/mman.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Operations per second of `step`, which does `operations` of them on independent sums.
template <class Step>
double rate(double operations, Step step) {
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const double start = seconds();
    const int steps = 200000;
    for (int i = 0; i < steps; ++i) step();
    const double taken = seconds() - start;
    if (steps * operations / taken > best) best = steps * operations / taken;
  }
  return best;
}

}  // namespace

extern "C" double bytes_per_second(std::size_t bytes) {
  auto* block = static_cast<char*>(std::aligned_alloc(std::size_t{2} << 20, bytes));
  madvise(block, bytes, MADV_HUGEPAGE);
  for (std::size_t i = 0; i < bytes; i += 64) block[i] = 1;
  double best = 0;
  volatile long long keep = 0;
  for (int round = 0; round < 5; ++round) {
    const double start = seconds();
    __m256i sum[8] = {};
    for (std::size_t i = 0; i + 256 <= bytes; i += 256) {
      _mm_prefetch(block + i + 16384, _MM_HINT_T1);
      _mm_prefetch(block + i + 16384 + 64, _MM_HINT_T1);
      _mm_prefetch(block + i + 16384 + 128, _MM_HINT_T1);
      _mm_prefetch(block + i + 16384 + 192, _MM_HINT_T1);
      for (int j = 0; j < 8; ++j)
        sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(block + i + 32 * j)));
    }
    for (int j = 1; j < 8; ++j) sum[0] = _mm256_xor_si256(sum[0], sum[j]);
    keep = _mm256_extract_epi64(sum[0], 0);
    const double taken = seconds() - start;
    if (bytes / taken > best) best = bytes / taken;
  }
  (void)keep;
  std::free(block);
  return best;
}

// One sum each in twelve registers, kept by an empty statement that the compiler cannot look into.
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#define PEAK(NAME, VECTOR, ZERO, OPERATIONS, STEP)                                                 \
  extern "C" double NAME() {                                                                       \
    VECTOR s0 = ZERO, s1 = ZERO, s2 = ZERO, s3 = ZERO, s4 = ZERO, s5 = ZERO, s6 = ZERO, s7 = ZERO; \
    VECTOR s8 = ZERO, s9 = ZERO, s10 = ZERO, s11 = ZERO, a = ZERO, b = ZERO;                       \
    asm volatile("" : "+v"(a), "+v"(b));                                                           \
    return rate(12.0 * (OPERATIONS), [&] { TWELVE(STEP) });                                        \
  }

#ifdef __AVX512F__
#define F32(i)                        \
  s##i = _mm512_fmadd_ps(a, b, s##i); \
  asm volatile("" : "+v"(s##i));
PEAK(float32_peak, __m512, _mm512_setzero_ps(), 32, F32)
#else
#define F32(i)                        \
  s##i = _mm256_fmadd_ps(a, b, s##i); \
  asm volatile("" : "+v"(s##i));
PEAK(float32_peak, __m256, _mm256_setzero_ps(), 16, F32)
#endif
#ifdef __AVX512BF16__
#define BF16(i)                                            \
  s##i = _mm512_dpbf16_ps(s##i, (__m512bh)a, (__m512bh)b); \
  asm volatile("" : "+v"(s##i));
PEAK(bfloat16_peak, __m512, _mm512_setzero_ps(), 64, BF16)
#endif
#ifdef __AVX512VNNI__
#define INT8(i)                           \
  s##i = _mm512_dpbusd_epi32(s##i, a, b); \
  asm volatile("" : "+v"(s##i));
PEAK(int8_peak, __m512i, _mm512_setzero_si512(), 128, INT8)
#endif
#ifdef __AVX512VPOPCNTDQ__
#define BITS(i)                                                                  \
  s##i = _mm512_add_epi32(s##i, _mm512_popcnt_epi32(_mm512_xor_si512(a, s##i))); \
  asm volatile("" : "+v"(s##i));
PEAK(binary_peak, __m512i, _mm512_setzero_si512(), 1024, BITS)
#endif
