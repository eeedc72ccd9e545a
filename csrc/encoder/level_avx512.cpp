#include "encoder/level.h"

namespace leafkit {

constinit const EncoderLevel kEncoderAvx512{encoder_kernels<Singles, float>(),
                                            encoder_kernels<Singles, std::uint16_t>()};

}  // namespace leafkit
