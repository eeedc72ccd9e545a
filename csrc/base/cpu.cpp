#include "base/cpu.h"

#include <cstdlib>
#include <stdexcept>

namespace leafkit {

const char* name_of(Level level) {
  switch (level) {
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
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(Level::avx512);
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
#endif
  return found;
}

}  // namespace leafkit
