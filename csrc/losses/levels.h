// losses/levels.h: what a level compiles for losses between rows.
#pragma once

#include <cstdint>

namespace leafkit {

// Of a stretch of a row of both: |s - t|^2 (or what Huber makes of it), s.s, t.t, s.t.
struct RowSums {
  double difference, student, teacher, product;
};
// A stretch's gradient: apart (s - t) + along s + against t. Huber cuts s - t at delta.
struct Slope {
  float apart, along, against;
};
// Stretches end at widths[0], widths[1], ...
using SumRow = void (*)(const float* student, const float* teacher, const std::int64_t* widths, std::int64_t count,
                        float delta, RowSums* out);
using WriteRow = void (*)(const float* student, const float* teacher, const std::int64_t* widths, std::int64_t count,
                          const Slope* slopes, float delta, float* out);

struct LossKernels {
  SumRow sum[2];  // plain, and Huber's
  WriteRow write[2];
};

extern const LossKernels kLossScalar;
#ifdef LEAFKIT_X86
extern const LossKernels kLossAvx2;
extern const LossKernels kLossAvx512;
#endif

}  // namespace leafkit
