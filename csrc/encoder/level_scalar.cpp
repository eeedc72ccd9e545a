#include "encoder/level.h"

namespace leafkit {

constinit const EncoderLevel kEncoderScalar{encoder_kernels<Singles, float>(),
                                            encoder_kernels<Singles, std::uint16_t>()};

}  // namespace leafkit
