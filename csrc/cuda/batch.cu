#include <algorithm>

#include "cuda/batch.cuh"
#include "cuda/sums.cuh"

namespace leafkit::cuda {
namespace {

using Exactly = PlainTile<PlainFloat32, 128>;
using InUnit = UnitTile<UnitBFloat16, 128>;

std::int64_t rounded(std::int64_t count, std::int64_t to) { return (count + to - 1) / to * to; }

// Columns of a chunk: some 64 million scores at most.
std::int64_t chunk_of(std::int64_t rows) {
  const std::int64_t most = rounded(std::max<std::int64_t>((std::int64_t{1} << 26) / rows, 1), kTileColumns);
  return std::min({most, std::int64_t{1024}, rounded(rows, kTileColumns)});
}

// Where everything lies in the working memory; sizes are whole 256-byte lines.
class Memory {
 public:
  explicit Memory(void* at) : at_(static_cast<unsigned char*>(at)) {}
  template <class T>
  T* take(std::int64_t count) {
    unsigned char* here = at_ == nullptr ? nullptr : at_ + used_;
    used_ += static_cast<std::size_t>(rounded(count * static_cast<std::int64_t>(sizeof(T)), 256));
    return reinterpret_cast<T*>(here);
  }
  std::size_t used() const { return used_; }

 private:
  unsigned char* at_;
  std::size_t used_ = 0;
};

template <class W>
struct Plan {
  std::int64_t rows, dim, stride, chunk;  // stride: values from row to row of what is multiplied
  W *left, *right;                        // relational: [e | t] and [s | e], else student and teacher
  W* turned;                              // a chunk of the texts that slopes are multiplied with
  W* slopes;
  float *scores[2], *sums;
  Softmax softmax[2];
  float *own, *log_sum[2], *own_slope;
  double* values;

  Plan(const Batch& of, Memory& memory) : rows(of.student.rows), dim(of.student.dim) {
    const std::int64_t parts = of.loss == BatchLoss::relational ? 2 : 1;
    stride = rounded(dim, 16 / static_cast<std::int64_t>(sizeof(W)));
    chunk = chunk_of(rows);
    left = memory.take<W>(rows * stride * parts);
    right = memory.take<W>(rows * stride * parts);
    turned = memory.take<W>(dim * chunk);
    slopes = memory.take<W>(rows * chunk);
    scores[0] = memory.take<float>(rows * chunk);
    scores[1] = of.loss == BatchLoss::listwise_kl ? memory.take<float>(rows * chunk) : nullptr;
    sums = memory.take<float>(rows * dim);
    for (Softmax& side : softmax) side = {memory.take<float>(rows), memory.take<float>(rows)};
    for (float*& side : log_sum) side = memory.take<float>(rows);
    own = memory.take<float>(rows);
    own_slope = memory.take<float>(rows);
    values = memory.take<double>(rows);
  }
};

unsigned row_blocks(std::int64_t rows) {
  return static_cast<unsigned>((rows + kRowThreads / 32 - 1) / (kRowThreads / 32));
}
unsigned thread_blocks(std::int64_t count) { return static_cast<unsigned>((count + kRowThreads - 1) / kRowThreads); }

template <class Tile, class W>
void multiply(const W* x, std::int64_t x_rows, std::int64_t x_stride, const W* y, std::int64_t y_rows,
              std::int64_t y_stride, std::int64_t inner, float scale, bool add, float* out, std::int64_t out_stride,
              Stream stream) {
  const auto side = [&](const W* data, std::int64_t rows, std::int64_t stride) {
    Side of = side_of(data, rows, stride);
    of.bytes = inner * static_cast<std::int64_t>(sizeof(W));
    return of;
  };
  const dim3 grid(static_cast<unsigned>((x_rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>((y_rows + kTileColumns - 1) / kTileColumns));
  launch(&product<Tile>, grid, kTileThreads, Tile::kShared, stream, side(x, x_rows, x_stride),
         side(y, y_rows, y_stride), scale, add, out, out_stride);
}

template <class T, class W, class Tile>
void queue(const Batch& of, float* value, void* gradient, void* memory, Stream stream) {
  Memory room(memory);
  const Plan<W> plan(of, room);
  const std::int64_t rows = plan.rows, dim = plan.dim, chunk = plan.chunk;
  const T *student = static_cast<const T*>(of.student.data), *teacher = static_cast<const T*>(of.teacher.data);
  const float scale = of.loss == BatchLoss::relational ? 1.0f : 1.0f / of.temperature;
  const unsigned by_row = row_blocks(rows);
  const bool relational = of.loss == BatchLoss::relational, kl = of.loss == BatchLoss::listwise_kl;
  const std::int64_t stride = relational ? 2 * plan.stride : plan.stride, inner = relational ? plan.stride + dim : dim;
  const auto words = [&](const T* from, const T* less, W* to, std::int64_t at) {
    launch(&convert<T, W>, by_row, kRowThreads, 0, stream, from, less, rows, dim, to, stride, at);
  };
  if (relational) {
    W* const sides[] = {plan.left, plan.right};
    for (W* side : sides)  // what lies between the two halves of a row
      launch(&clear<W>, thread_blocks(rows * stride), kRowThreads, 0, stream, side, rows * stride);
    words(student, teacher, plan.left, 0), words(teacher, nullptr, plan.left, plan.stride);
    words(student, nullptr, plan.right, 0), words(student, teacher, plan.right, plan.stride);
  } else {
    words(student, nullptr, plan.left, 0), words(teacher, nullptr, plan.right, 0);
  }
  // The scores of a chunk: [e | t] [s | e]', s t', or s s' and t t'.
  const auto score = [&](std::int64_t first, std::int64_t count) {
    const W* x[2] = {plan.left, plan.right};
    const W* y[2] = {kl ? plan.left : plan.right, plan.right};
    for (int side = 0; side < (kl ? 2 : 1); ++side)
      multiply<Tile>(x[side], rows, stride, y[side] + first * stride, count, stride, inner, scale, false,
                     plan.scores[side], chunk, stream);
  };
  const auto each_chunk = [&](const auto& f) {
    for (std::int64_t first = 0; first < rows; first += chunk) f(first, std::min(chunk, rows - first));
  };
  if (!relational) {
    each_chunk([&](std::int64_t first, std::int64_t count) {
      score(first, count);
      for (int side = 0; side < (kl ? 2 : 1); ++side)
        launch(&observe, by_row, kRowThreads, 0, stream, plan.scores[side], chunk, rows, first, static_cast<int>(count),
               plan.softmax[side]);
    });
    if (kl) {
      for (int side = 0; side < 2; ++side)
        launch(&log_sums, thread_blocks(rows), kRowThreads, 0, stream, rows, plan.softmax[side], plan.log_sum[side]);
    } else {
      launch(&own_scores<T>, by_row, kRowThreads, 0, stream, student, teacher, rows, dim, scale, plan.own);
      launch(&contrast, thread_blocks(rows), kRowThreads, 0, stream, rows, plan.own, plan.softmax[0], plan.log_sum[0],
             plan.own_slope, plan.values);
    }
  }
  // What slopes are multiplied with: the teacher's texts, or the student's, which relational has in the first columns.
  const W* texts = kl ? plan.left : plan.right;
  each_chunk([&](std::int64_t first, std::int64_t count) {
    if (relational || rows > chunk) score(first, count);  // one chunk is still there
    const int columns = static_cast<int>(count);
    if (relational)
      launch(&square<W>, by_row, kRowThreads, 0, stream, plan.scores[0], chunk, rows, first, columns, plan.slopes,
             plan.values);
    else if (kl)
      launch(&differ<W>, by_row, kRowThreads, 0, stream, plan.scores[0], plan.scores[1], chunk, rows, first, columns,
             plan.log_sum[0], plan.log_sum[1], plan.slopes, plan.values);
    else
      launch(&weigh<W>, by_row, kRowThreads, 0, stream, plan.scores[0], chunk, rows, first, columns, plan.log_sum[0],
             plan.own_slope, plan.slopes);
    const dim3 squares(static_cast<unsigned>((count + 31) / 32), static_cast<unsigned>((dim + 31) / 32));
    launch(&turn<W>, squares, kRowThreads, 32 * 33 * sizeof(W), stream, texts, stride, first, count, dim, plan.turned,
           chunk);
    multiply<Tile>(plan.slopes, rows, chunk, plan.turned, dim, chunk, count, 1.0f, first > 0, plan.sums, dim, stream);
  });
  const double count = static_cast<double>(rows), mean = relational ? 1 / (count * count) : 1 / count;
  const double slope = relational ? 4 * mean : mean / static_cast<double>(of.temperature);
  launch(&scaled<T>, thread_blocks(rows * dim), kRowThreads, 0, stream, plan.sums, rows * dim,
         static_cast<float>(slope), static_cast<T*>(gradient));
  launch(&mean_of, 1, kSumThreads, 32 * sizeof(double), stream, plan.values, rows, mean, value);
}

template <class T>
void queue(const Batch& of, float* value, void* gradient, void* memory, Stream stream) {
  if (of.exact) return queue<T, float, Exactly>(of, value, gradient, memory, stream);
  queue<T, BFloat16, InUnit>(of, value, gradient, memory, stream);
}

}  // namespace

std::size_t batch_memory(const Batch& of) {
  Memory room(nullptr);
  if (of.exact)
    Plan<float>(of, room);
  else
    Plan<BFloat16>(of, room);
  return room.used();
}

void batch_loss(const Batch& of, float* value, void* gradient, void* memory, Stream stream) {
  if (of.type == Type::float32) return queue<float>(of, value, gradient, memory, stream);
  queue<BFloat16>(of, value, gradient, memory, stream);
}

}  // namespace leafkit::cuda
