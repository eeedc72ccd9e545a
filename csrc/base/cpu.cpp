#include "base/cpu.h"

#ifdef LEAFKIT_X86
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include <cstdlib>
#include <stdexcept>

namespace leafkit {

#ifdef LEAFKIT_X86
namespace {

// AMX with int8 and bfloat16 products. Linux gives a process the tiles only when it asks for them, and may refuse.
bool amx_granted() {
#ifdef __linux__
  static const bool granted = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBfloat16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBfloat16 | kTile | kInt8;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAll) != kAll) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return granted;
#else
  return false;
#endif
}

}  // namespace
#endif

const char* name_of(Level level) {
  switch (level) {
    case Level::amx:
      return "amx";
    case Level::avx512:
      return "avx512";
    case Level::avx2:
      return "avx2";
    default:
      return "scalar";
  }
}

std::vector<Level> levels() {
  std::vector<Level> found;
#ifdef LEAFKIT_X86
  // The compiler's test looks at XGETBV too: the operating system must keep the registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") && amx_granted())
      found.push_back(Level::amx);
    found.push_back(Level::avx512);
  }
  if (avx2) found.push_back(Level::avx2);
#endif
  found.push_back(Level::scalar);
  return found;
}

Level level_named(const std::string& name) {
  const char* forced = std::getenv("LEAFKIT_CPU_LEVEL");
  const std::string wanted = !name.empty() ? name : forced != nullptr ? forced : "";
  const std::vector<Level> found = levels();
  if (wanted.empty()) return found.front();
  std::string have;
  for (const Level level : found) {
    if (wanted == name_of(level)) return level;
    have += have.empty() ? "" : ", ";
    have += name_of(level);
  }
  throw std::invalid_argument("CPU level \"" + wanted + "\" cannot run here; this CPU and build have: " + have);
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#ifdef LEAFKIT_X86
  if (__builtin_cpu_supports("avx2")) found.push_back("avx2");
  if (__builtin_cpu_supports("fma")) found.push_back("fma");
  if (__builtin_cpu_supports("avx512f")) found.push_back("avx512f");
  if (__builtin_cpu_supports("avx512bw")) found.push_back("avx512bw");
  if (__builtin_cpu_supports("avx512vnni")) found.push_back("avx512vnni");
  if (__builtin_cpu_supports("avx512bf16")) found.push_back("avx512bf16");
  if (__builtin_cpu_supports("avx512vpopcntdq")) found.push_back("avx512vpopcntdq");
  if (amx_granted()) found.push_back("amx");
#endif
  return found;
}

}  // namespace leafkit
