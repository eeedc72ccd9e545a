#include "search/kernels.h"

#include <utility>

namespace leafkit {

#ifdef LEAFKIT_X86
static void use_amx(Kernels& kernels) {
  for (const auto& [type, tile] : {std::pair{Type::int8, kInt8Amx}, std::pair{Type::bfloat16, kBfloat16Amx}}) {
    kernels.tile[static_cast<int>(type)] = tile;
    kernels.tile_queries[static_cast<int>(type)] = kMostTileQueries;
  }
  kernels.in_place = Type::bfloat16;
  kernels.enter = kEnterAmx;
  kernels.leave = kLeaveAmx;
}
#endif

Kernels kernels_of(Level level) {
#ifdef LEAFKIT_X86
  if (level >= Level::avx512) {
    Kernels kernels = kKernelsAvx512;
    if (__builtin_cpu_supports("avx512bf16")) {
      kernels.tile[static_cast<int>(Type::bfloat16)] = kBfloat16Avx512;
      kernels.in_place = Type::bfloat16;
    }
    if (__builtin_cpu_supports("avx512vnni")) kernels.tile[static_cast<int>(Type::int8)] = kInt8Avx512;
    if (__builtin_cpu_supports("avx512vpopcntdq")) kernels.tile[static_cast<int>(Type::binary)] = kBinaryAvx512;
    if (level == Level::amx) use_amx(kernels);
    return kernels;
  }
  if (level == Level::avx2) return kKernelsAvx2;
#endif
  (void)level;
  return kKernelsScalar;
}

}  // namespace leafkit
