#include "losses/losses.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/plain.h"
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

// A prefix's loss and its gradient, apart (s - t) + along s + against t. s - t is exact where the two are near.
struct PrefixLoss {
  double value, apart, along, against;
};

// 1 - cos = (|s - t|^2 - (|s| - |t|)^2) / (2 |s| |t|), which loses nothing where the two are near; where one is twice
// as long as the other, it is the squares that cancel, and s.t says more. A row of zeros is at distance 1 from
// everything, in every direction.
PrefixLoss cosine_loss(const RowSums& sums) {
  const double norm_s = std::sqrt(sums.student), norm_t = std::sqrt(sums.teacher);
  if (norm_s == 0 || norm_t == 0) return {1, 0, 0, 0};
  const double over = 1 / norm_s / norm_t;
  if (norm_s > 2 * norm_t || norm_t > 2 * norm_s) {
    const double cosine = sums.product * over;
    return {1 - cosine, 0, cosine / norm_s / norm_s, -over};
  }
  const double longer = norm_t - norm_s, value = 0.5 * over * (sums.difference - longer * longer);
  return {value, over, over * (longer - value * norm_t) / norm_s, 0};
}

PrefixLoss root(double square, const PrefixLoss& of) {
  const double value = std::sqrt(std::max(square, 0.0));
  if (value == 0) return {0, 0, 0, 0};
  return {value, of.apart / value, of.along / value, of.against / value};
}

// What float32 may have lost: squares that are no normal numbers, or of which some were not.
constexpr double kFewest = 1e-24, kMost = 1e30;
bool outside(double square) { return square < kFewest || square > kMost; }  // NaN stays what it is

bool needs_doubles(const Alignment& of, const std::vector<RowSums>& sums) {
  if (of.metric == Metric::huber) return false;
  const bool lengths = of.metric == Metric::cosine || of.unit_prefixes;
  return std::any_of(sums.begin(), sums.end(), [&](const RowSums& prefix) {
    return (lengths && (outside(prefix.student) || outside(prefix.teacher))) ||
           (of.metric == Metric::l2 && outside(prefix.difference));
  });
}

void sum_in_doubles(const float* s, const float* t, const std::vector<std::int64_t>& widths, RowSums* out) {
  std::int64_t i = 0;
  for (const std::int64_t width : widths) {
    RowSums sums{};
    for (; i < width; ++i) {
      const double a = s[i], b = t[i];
      sums.difference += (a - b) * (a - b);
      sums.student += a * a;
      sums.teacher += b * b;
      sums.product += a * b;
    }
    *out++ = sums;
  }
}

void write_in_doubles(const float* s, const float* t, const std::vector<std::int64_t>& widths, const PrefixLoss* slopes,
                      float* out) {
  std::int64_t i = 0;
  for (const std::int64_t width : widths) {
    for (; i < width; ++i) {
      const double a = s[i], b = t[i];
      out[i] = static_cast<float>(slopes->apart * (a - b) + slopes->along * a + slopes->against * b);
    }
    ++slopes;
  }
}

void to_prefixes(std::vector<RowSums>& stretches) {
  for (std::size_t k = 1; k < stretches.size(); ++k) {
    stretches[k].difference += stretches[k - 1].difference;
    stretches[k].student += stretches[k - 1].student;
    stretches[k].teacher += stretches[k - 1].teacher;
    stretches[k].product += stretches[k - 1].product;
  }
}

PrefixLoss prefix_loss(Metric metric, bool unit, const RowSums& sums) {
  if (metric == Metric::cosine) return cosine_loss(sums);
  if (metric == Metric::huber) return {sums.difference, 1, 0, 0};
  if (!unit) {
    if (metric == Metric::squared_l2) return {sums.difference, 2, 0, 0};
    return root(sums.difference, {0, 1, 0, 0});
  }
  const bool no_student = sums.student == 0, no_teacher = sums.teacher == 0;
  PrefixLoss of = cosine_loss(sums);  // |a - b|^2 = 2 (1 - cos) between unit vectors; zeros stay zeros
  if (no_student || no_teacher) of.value = no_student && no_teacher ? 0 : 0.5;
  if (metric == Metric::squared_l2) return {2 * of.value, 2 * of.apart, 2 * of.along, 2 * of.against};
  return root(2 * of.value, of);
}

constexpr std::int64_t kRowsAPart = 64;

}  // namespace

Metric metric_named(const std::string& name) {
  if (name == "squared_l2") return Metric::squared_l2;
  if (name == "l2") return Metric::l2;
  if (name == "cosine") return Metric::cosine;
  if (name == "huber") return Metric::huber;
  throw std::invalid_argument("metric \"" + name + "\": expected squared_l2, l2, cosine or huber");
}

double alignment_loss(const Alignment& of, int threads, Level level, float* gradient) {
  const bool huber = of.metric == Metric::huber;
  const SumRow sum = kernels(level).sum[huber];
  const WriteRow write = kernels(level).write[huber];
  const std::int64_t rows = of.student.count, dim = of.student.dim;
  const auto count = static_cast<std::int64_t>(of.widths.size());
  std::vector<double> values(static_cast<std::size_t>(rows));
  parallel((rows + kRowsAPart - 1) / kRowsAPart, threads, [&](std::int64_t part) {
    const PlainArithmetic plain;
    std::vector<RowSums> sums(of.widths.size());
    std::vector<PrefixLoss> slopes(of.widths.size());
    std::vector<Slope> rounded(of.widths.size());
    const std::int64_t last = std::min(rows, (part + 1) * kRowsAPart);
    for (std::int64_t row = part * kRowsAPart; row < last; ++row) {
      const float *s = of.student.row(row), *t = of.teacher.row(row);
      sum(s, t, of.widths.data(), count, of.delta, sums.data());
      to_prefixes(sums);
      const bool doubles = needs_doubles(of, sums);
      if (doubles) {
        sum_in_doubles(s, t, of.widths, sums.data());
        to_prefixes(sums);
      }
      const double weight = (of.weights == nullptr ? 1 : of.weights[row]);
      const double scale = weight / static_cast<double>(rows);
      double value = 0, apart = 0, along = 0, against = 0;
      for (std::size_t k = sums.size(); k-- > 0;) {  // a stretch is part of its prefix and of all longer ones
        const PrefixLoss loss = prefix_loss(of.metric, of.unit_prefixes && of.widths[k] < dim, sums[k]);
        value += of.shares[k] * loss.value;
        apart += of.shares[k] * loss.apart;
        along += of.shares[k] * loss.along;
        against += of.shares[k] * loss.against;
        slopes[k] = {value, scale * apart, scale * along, scale * against};
        rounded[k] = {static_cast<float>(scale * apart), static_cast<float>(scale * along),
                      static_cast<float>(scale * against)};
      }
      values[static_cast<std::size_t>(row)] = weight * value;
      float* out = gradient + row * dim;
      if (doubles) {
        write_in_doubles(s, t, of.widths, slopes.data(), out);
      } else {
        write(s, t, of.widths.data(), count, rounded.data(), of.delta, out);
      }
      std::fill(out + of.widths.back(), out + dim, 0.0f);
    }
  });
  double total = 0;
  for (const double value : values) total += value;  // in row order: the same for any number of threads
  return total / static_cast<double>(rows);
}

}  // namespace leafkit
