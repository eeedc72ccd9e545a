// base/scratch.h: what a thread works in; kept, because memory that is fresh from the system costs more than the
// work.
#pragma once

#include <cstdint>

#include "base/memory.h"

namespace leafkit {

inline std::uint32_t* scratch(std::int64_t words) {
  thread_local Bytes block;
  thread_local std::int64_t held = 0;
  if (held < words) {
    block = aligned_bytes(static_cast<std::size_t>(words) * sizeof(std::uint32_t));
    held = words;
  }
  return reinterpret_cast<std::uint32_t*>(block.get());
}

}  // namespace leafkit
