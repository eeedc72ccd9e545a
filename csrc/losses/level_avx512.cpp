#include "losses/rows.h"

namespace leafkit {

const LossKernels kLossAvx512{&sum_row, &write_row};

}  // namespace leafkit
