// losses/losses.h: alignment losses between a student's and its teacher's vectors of the same texts.
#pragma once

#include <string>

#include "base/cpu.h"
#include "base/views.h"

namespace leafkit {

// What one pass over a row of both gives: |s - t|^2, s.t, s.s, t.t, each in float64.
struct RowSums {
  double difference, product, student, teacher;
};
using SumRow = void (*)(const float* student, const float* teacher, std::int64_t dim, RowSums* out);
// gradient[i] = a * student[i] + b * teacher[i]
using WriteRow = void (*)(const float* student, const float* teacher, std::int64_t dim, double a, double b, float* out);

struct LossKernels {
  SumRow sum;
  WriteRow write;
};

enum class Metric { squared_l2, l2, cosine };
Metric metric_named(const std::string& name);  // throws std::invalid_argument

// The mean over rows; the gradient in the student is written to (B, D), adjacent rows.
double alignment_loss(Rows<const float> student, Rows<const float> teacher, Metric metric, int threads, Level level,
                      float* gradient);

}  // namespace leafkit
