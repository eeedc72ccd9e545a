#include "losses/rows.h"
#include "losses/scores.h"

namespace leafkit {

constinit const LossKernels kLossAvx2{loss_kernels()};
constinit const BatchKernels kBatchAvx2{batch_kernels<Singles>()};

}  // namespace leafkit
