// losses/rows.h: the two passes over a row, written once; a level's file compiles them with its own flags, and the
// compiler fills its registers (eight sums side by side keep the order of additions fixed).
#pragma once

#include "losses/levels.h"

namespace leafkit {
namespace {  // unnamed: the linker must never hand code of one level's file to another CPU

constexpr int kLanes = 8;

void sum_row(const float* student, const float* teacher, std::int64_t dim, RowSums* out) {
  double difference[kLanes] = {}, product[kLanes] = {}, square_s[kLanes] = {}, square_t[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const double s = student[i + lane], t = teacher[i + lane];
      difference[lane] += (s - t) * (s - t);
      product[lane] += s * t;
      square_s[lane] += s * s;
      square_t[lane] += t * t;
    }
  for (int lane = 0; i < dim; ++i, ++lane) {
    const double s = student[i], t = teacher[i];
    difference[lane] += (s - t) * (s - t);
    product[lane] += s * t;
    square_s[lane] += s * s;
    square_t[lane] += t * t;
  }
  *out = {0, 0, 0, 0};
  for (int lane = 0; lane < kLanes; ++lane) {
    out->difference += difference[lane];
    out->product += product[lane];
    out->student += square_s[lane];
    out->teacher += square_t[lane];
  }
}

void write_row(const float* student, const float* teacher, std::int64_t dim, double a, double b, float* out) {
  for (std::int64_t i = 0; i < dim; ++i) out[i] = static_cast<float>(a * student[i] + b * teacher[i]);
}

}  // namespace
}  // namespace leafkit
