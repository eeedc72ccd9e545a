#include "search/kernels.h"

#ifdef LEAFKIT_X86
#include <cpuid.h>
#endif

#include <utility>

namespace leafkit {

#ifdef LEAFKIT_X86
static bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
}

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
  if (level == Level::avx2) {
    Kernels kernels = kKernelsAvx2;
    if (has_avx_vnni()) {
      kernels.tile[static_cast<int>(Type::int8)] = kInt8Avx2;
      kernels.tile_queries[static_cast<int>(Type::int8)] = kTileQueries;
    }
    return kernels;
  }
#endif
  (void)level;
  return kKernelsScalar;
}

}  // namespace leafkit
