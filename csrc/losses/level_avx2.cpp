#include "losses/rows.h"

namespace leafkit {

const LossKernels kLossAvx2{&sum_row, &write_row};

}  // namespace leafkit
