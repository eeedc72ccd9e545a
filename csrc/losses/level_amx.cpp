#include "base/tiles.h"
#include "losses/scores.h"

namespace leafkit {

constinit const BatchKernels kBatchAmx{batch_kernels<Tiles>()};

}  // namespace leafkit
