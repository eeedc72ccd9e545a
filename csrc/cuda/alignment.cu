#include "cuda/alignment.cuh"
#include "cuda/sums.cuh"

namespace leafkit::cuda {
namespace {

bool whole_words(const Alignment& of, const void* gradient, int bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(of.student.data) |
                  reinterpret_cast<std::uintptr_t>(of.teacher.data) | reinterpret_cast<std::uintptr_t>(gradient);
  return (at | static_cast<std::uintptr_t>(of.student.dim * bytes)) % 16 == 0;
}

template <class T>
void queue(const Alignment& of, float* value, void* gradient, double* values, Stream stream) {
  const auto blocks = static_cast<unsigned>((of.student.rows + kRowsABlock - 1) / kRowsABlock);
  launch(&alignment_rows<T>, blocks, 32 * kRowsABlock, alignment_shared(of.count), stream, of,
         whole_words(of, gradient, sizeof(T)), static_cast<T*>(gradient), values);
  launch(&mean_of, 1, kSumThreads, 32 * sizeof(double), stream, values, of.student.rows,
         1.0 / static_cast<double>(of.student.rows), value);
}

}  // namespace

std::size_t alignment_memory(std::int64_t rows) { return static_cast<std::size_t>(rows) * sizeof(double); }

void alignment_loss(const Alignment& of, float* value, void* gradient, void* memory, Stream stream) {
  auto* values = static_cast<double*>(memory);
  if (of.type == Type::float32) return queue<float>(of, value, gradient, values, stream);
  queue<BFloat16>(of, value, gradient, values, stream);
}

}  // namespace leafkit::cuda
