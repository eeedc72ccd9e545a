#include "base/pairs.h"
#include "losses/scores.h"

namespace leafkit {

constinit const BatchKernels kBatchNarrow{batch_kernels<Pairs>()};

}  // namespace leafkit
