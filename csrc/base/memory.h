// base/memory.h: large aligned blocks that the kernel may hold in huge pages.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace leafkit {

struct FreeBytes {
  void operator()(std::byte* block) const { std::free(block); }
};
using Bytes = std::unique_ptr<std::byte[], FreeBytes>;

// Aligned to 64 bytes, from 4 MiB on to 2 MiB and advised as huge pages: a scan over it misses fewer pages.
inline Bytes aligned_bytes(std::size_t bytes) {
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const std::size_t align = bytes >= 2 * kHuge ? kHuge : 64, size = (bytes + align - 1) / align * align;
  auto* block = static_cast<std::byte*>(std::aligned_alloc(align, size > 0 ? size : align));
  if (block == nullptr) throw std::bad_alloc();
#ifdef __linux__
  if (align == kHuge) madvise(block, size, MADV_HUGEPAGE);
#endif
  return Bytes(block);
}

}  // namespace leafkit
