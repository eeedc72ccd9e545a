// losses/levels.h: one pair of functions a level.
#pragma once

#include "losses/losses.h"

namespace leafkit {

extern const LossKernels kLossScalar;
#ifdef LEAFKIT_X86
extern const LossKernels kLossAvx2;
extern const LossKernels kLossAvx512;
#endif

}  // namespace leafkit
