#include "losses/losses.h"

#include <cmath>
#include <stdexcept>
#include <vector>

#include "base/pool.h"
#include "losses/levels.h"

namespace leafkit {
namespace {

const LossKernels& kernels(Level level) {
#ifdef LEAFKIT_X86
  if (level >= Level::avx512) return kLossAvx512;
  if (level == Level::avx2) return kLossAvx2;
#endif
  (void)level;
  return kLossScalar;
}

// A row's loss and its gradient a * student + b * teacher, before the division by the number of rows.
struct RowLoss {
  double value, a, b;
};

RowLoss row_loss(Metric metric, const RowSums& sums) {
  if (metric == Metric::squared_l2) return {sums.difference, 2, -2};
  if (metric == Metric::l2) {
    const double norm = std::sqrt(sums.difference);
    return norm == 0 ? RowLoss{0, 0, 0} : RowLoss{norm, 1 / norm, -1 / norm};
  }
  const double norm_s = std::sqrt(sums.student), norm_t = std::sqrt(sums.teacher);
  if (norm_s == 0 || norm_t == 0) return {1, 0, 0};
  const double cosine = sums.product / (norm_s * norm_t);
  return {1 - cosine, cosine / sums.student, -1 / (norm_s * norm_t)};
}

constexpr std::int64_t kRowsAPart = 64;

}  // namespace

Metric metric_named(const std::string& name) {
  if (name == "squared_l2") return Metric::squared_l2;
  if (name == "l2") return Metric::l2;
  if (name == "cosine") return Metric::cosine;
  throw std::invalid_argument("metric \"" + name + "\": expected squared_l2, l2 or cosine");
}

double alignment_loss(Rows<const float> student, Rows<const float> teacher, Metric metric, int threads, Level level,
                      float* gradient) {
  const LossKernels& level_kernels = kernels(level);
  const double rows = static_cast<double>(student.count);
  std::vector<double> values(static_cast<std::size_t>(student.count));
  const std::int64_t parts = (student.count + kRowsAPart - 1) / kRowsAPart;
  parallel(parts, threads, [&](std::int64_t part) {
    const std::int64_t last = std::min(student.count, (part + 1) * kRowsAPart);
    for (std::int64_t row = part * kRowsAPart; row < last; ++row) {
      RowSums sums;
      level_kernels.sum(student.row(row), teacher.row(row), student.dim, &sums);
      const RowLoss loss = row_loss(metric, sums);
      values[static_cast<std::size_t>(row)] = loss.value;
      float* out = gradient + row * student.dim;
      level_kernels.write(student.row(row), teacher.row(row), student.dim, loss.a / rows, loss.b / rows, out);
    }
  });
  double total = 0;
  for (const double value : values) total += value;  // in row order: the same for any number of threads
  return total / rows;
}

}  // namespace leafkit
