#include "search/kernels.h"

namespace leafkit {

Kernels kernels_of(Level level) {
#ifdef LEAFKIT_X86
  if (level == Level::avx512) {
    Kernels kernels = kKernelsAvx512;
    if (__builtin_cpu_supports("avx512bf16")) {
      kernels.tile[static_cast<int>(Type::bfloat16)] = kBfloat16Avx512;
      kernels.in_place = Type::bfloat16;
    }
    if (__builtin_cpu_supports("avx512vnni")) kernels.tile[static_cast<int>(Type::int8)] = kInt8Avx512;
    if (__builtin_cpu_supports("avx512vpopcntdq")) kernels.tile[static_cast<int>(Type::binary)] = kBinaryAvx512;
    return kernels;
  }
  if (level == Level::avx2) return kKernelsAvx2;
#endif
  (void)level;
  return kKernelsScalar;
}

}  // namespace leafkit
