#include "encoder/pairs.h"

namespace leafkit {

constinit const EncoderLevel kEncoderAmx{encoder_kernels<Singles, float>(), encoder_kernels<Pairs, std::uint16_t>()};

}  // namespace leafkit
