// encoder/level.h: the table of a level, from what it multiplies bfloat16 by.
#pragma once

#include "encoder/attention.h"
#include "encoder/rows.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

template <class Type, class S>
constexpr EncoderKernels<S> encoder_kernels() {
  return {&attend_head<Type, S>,
          &attend_head_backward<Type, S>,
          &gelu_rows<S>,
          &normalize_rows<S, S>,
          &normalize_rows_backward<S, S>,
          &normalize_rows<float, S>,
          &normalize_rows_backward<float, S>,
          &transpose_columns<S>,
          &mean_of_rows<S>,
          &spread_rows<S>};
}

}  // namespace
}  // namespace leafkit
