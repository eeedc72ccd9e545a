#include "base/pairs.h"
#include "encoder/level.h"

namespace leafkit {

constinit const EncoderLevel kEncoderAvx512Narrow{encoder_kernels<Singles, float>(),
                                                  encoder_kernels<Pairs, std::uint16_t>()};

}  // namespace leafkit
