// base/views.h: a matrix of rows that someone else owns.
#pragma once

#include <cstdint>

namespace leafkit {

// `count` rows of `dim` adjacent elements, `stride` elements from one row to the next. 64-bit throughout.
template <class T>
struct Rows {
  T* data;
  std::int64_t count;
  std::int64_t dim;
  std::int64_t stride;
  // Always inlined: a level file must not leave a weak copy of it for the linker to hand to an older CPU.
  [[gnu::always_inline]] T* row(std::int64_t number) const { return data + number * stride; }
};

}  // namespace leafkit
