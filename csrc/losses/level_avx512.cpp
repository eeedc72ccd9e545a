#include "losses/rows.h"
#include "losses/scores.h"

namespace leafkit {

constinit const LossKernels kLossAvx512{loss_kernels()};
constinit const BatchKernels kBatchAvx512{batch_kernels<Singles>()};

}  // namespace leafkit
