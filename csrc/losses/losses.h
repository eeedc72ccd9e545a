// losses/losses.h: alignment losses between a student's and its teacher's vectors of the same texts, row by row.
#pragma once

#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/views.h"

namespace leafkit {

enum class Metric { squared_l2, l2, cosine, huber };
Metric metric_named(const std::string& name);  // throws std::invalid_argument

struct Alignment {
  Rows<const float> student, teacher;  // (B, D)
  Metric metric;
  std::vector<std::int64_t> widths;  // of the prefixes that are compared, rising, up to D
  std::vector<double> shares;        // weight of each prefix
  const double* weights;             // of the rows, B of them, or null for 1 each
  bool unit_prefixes;                // a prefix below D is given unit length first, on both sides
  float delta;                       // of huber
};

// Sum over rows and prefixes of weight, share and loss, over B; the gradient in the student is written to (B, D),
// adjacent rows. NaN where a row holds NaN.
double alignment_loss(const Alignment& of, int threads, Level level, float* gradient);

}  // namespace leafkit
