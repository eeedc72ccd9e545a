#include "losses/rows.h"
#include "losses/scores.h"

namespace leafkit {

constinit const LossKernels kLossScalar{loss_kernels()};
constinit const BatchKernels kBatchScalar{batch_kernels<Singles>()};

}  // namespace leafkit
