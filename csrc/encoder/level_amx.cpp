// Products in the matrix unit: attention's, whose sides lie as it reads them, and tiles.h's.
#include "encoder/level.h"
#include "encoder/tiles.h"

namespace leafkit {

constinit const EncoderLevel kEncoderAmx{encoder_kernels<Singles, float>(), encoder_kernels<Tiles, std::uint16_t>()};
constinit const ProductKernels kProductsAmx{&pack_columns<true>, &pack_right_side, &multiply_sides};

}  // namespace leafkit
