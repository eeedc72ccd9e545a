// base/cpu.h: what this CPU can run, and which level answers.
#pragma once

#include <string>
#include <vector>

namespace leafkit {

enum class Level { scalar, avx2, avx512, amx };  // each has what stands before it

const char* name_of(Level level);
// Levels that were compiled and that CPU and operating system support, best first.
std::vector<Level> levels();
// The level of a name; an empty name means LEAFKIT_CPU_LEVEL, else the best. Throws std::invalid_argument.
Level level_named(const std::string& name);
std::vector<std::string> cpu_features();

}  // namespace leafkit
