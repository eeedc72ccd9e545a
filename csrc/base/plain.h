// base/plain.h: the usual arithmetic, whatever the caller has set for itself.
#pragma once

#ifdef LEAFKIT_X86
#include <xmmintrin.h>
#endif

namespace leafkit {

// The usual arithmetic while it lives: to the nearest, denormals kept. Callers may have set something else for
// themselves, and threads inherit it from the one that made them.
class PlainArithmetic {
#ifdef LEAFKIT_X86
 public:
  PlainArithmetic() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  PlainArithmetic(const PlainArithmetic&) = delete;
  PlainArithmetic& operator=(const PlainArithmetic&) = delete;
  ~PlainArithmetic() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

}  // namespace leafkit
