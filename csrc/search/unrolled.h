// search/unrolled.h: loops whose counter is a constant of the front end.
#pragma once

#include <utility>

namespace leafkit {
namespace {  // unnamed: see base/views.h

template <int I>
struct Constant {
  [[gnu::always_inline]] constexpr operator int() const { return I; }  // NOLINT: it stands for the number
};

// Calls body(0), body(1) ... body(N - 1), each counter a type's value. Sums indexed so stay in registers; with an
// unrolled loop GCC 12 keeps some of them in memory and the speed halves (tests/native/test_levels.py looks for it).
template <int N, class Body>
[[gnu::always_inline]] inline void unrolled(Body&& body) {
  [&]<int... I>(std::integer_sequence<int, I...>)
      __attribute__((always_inline)) { (body(Constant<I>{}), ...); }(std::make_integer_sequence<int, N>{});
}

// Calls body(value) with the value, 1 to Most, as such a constant.
template <int Most, class Body>
[[gnu::always_inline]] inline void as_constant(int value, Body&& body) {
  unrolled<Most>([&](auto i) __attribute__((always_inline)) {
    if (value == i + 1) body(Constant<i + 1>{});
  });
}

}  // namespace
}  // namespace leafkit
