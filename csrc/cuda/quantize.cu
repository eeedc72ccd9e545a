#include "cuda/quantize.cuh"

namespace leafkit::cuda {
namespace {

template <class T>
void queue(const Matrix& rows, Type to, const float* dim_scales, void* codes, float* scales, Stream stream) {
  constexpr std::int64_t kRows = kQuantizeThreads / 32;
  launch(&quantize_rows<T>, static_cast<unsigned>((rows.rows + kRows - 1) / kRows), kQuantizeThreads, 0, stream,
         static_cast<const T*>(rows.data), rows.rows, rows.dim, to, dim_scales, packed_stride(to, rows.dim),
         static_cast<unsigned char*>(codes), scales);
}

}  // namespace

std::int64_t packed_stride(Type type, std::int64_t dim) {
  const std::int64_t bytes = type == Type::float32  ? 4 * dim
                             : type == Type::int8   ? dim
                             : type == Type::binary ? (dim + 7) / 8
                                                    : 2 * dim;
  return (bytes + 15) / 16 * 16;
}

void quantize(const Matrix& rows, Type from, Type to, const float* dim_scales, void* codes, float* scales,
              Stream stream) {
  if (from == Type::float32) return queue<float>(rows, to, dim_scales, codes, scales, stream);
  if (from == Type::bfloat16) return queue<BFloat16>(rows, to, dim_scales, codes, scales, stream);
  queue<Float16>(rows, to, dim_scales, codes, scales, stream);
}

}  // namespace leafkit::cuda
