// losses/blocks.h: what the losses of a batch share: the level's kernels, memory, threads, checks, tiles and panels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/plain.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "losses/batch.h"
#include "losses/forms.h"

namespace leafkit {
namespace {

using Word = std::uint32_t;

constexpr std::int64_t kRows = 128;   // of the left side at once: with a panel of the right side they fill a cache
constexpr std::int64_t kBlock = 256;  // texts of a block, where blocks meet blocks

const BatchKernels& kernels(const Batch& batch) {
#ifdef LEAFKIT_X86
  if (batch.level == Level::amx && !batch.exact) return kBatchAmx;
  if (batch.level >= Level::avx512)
    return !batch.exact && __builtin_cpu_supports("avx512bf16") ? kBatchNarrow : kBatchAvx512;
  if (batch.level == Level::avx2) return kBatchAvx2;
#endif
  (void)batch;
  return kBatchScalar;
}

std::int64_t whole(std::int64_t count) { return (count + kPanel - 1) / kPanel * kPanel; }

// Memory for words or floats that lives as long as a call.
class Room {
 public:
  explicit Room(std::int64_t words) : bytes_(aligned_bytes(static_cast<std::size_t>(words) * sizeof(Word))) {}
  Word* words() const { return reinterpret_cast<Word*>(bytes_.get()); }
  float* floats() const { return reinterpret_cast<float*>(bytes_.get()); }

 private:
  Bytes bytes_;
};

// Hands out parts of a thread's scratch, whole cache lines a little apart (see encoder/attention.h).
class Parts {
 public:
  explicit Parts(std::int64_t words) : next_(scratch(words)) {}
  Word* words(std::int64_t count) {
    Word* out = next_;
    next_ += size(count);
    return out;
  }
  float* floats(std::int64_t count) { return reinterpret_cast<float*>(words(count)); }
  static std::int64_t size(std::int64_t count) { return (count + 15) / 16 * 16 + 48; }

 private:
  Word* next_;
};

// One thread's work on one part, with the level's registers set up for it.
template <class Work>
void in_parts(const BatchKernels& level, std::int64_t parts, int threads, const Work& work) {
  parallel(parts, threads, [&](std::int64_t part) {
    const PlainArithmetic plain;
    level.begin();
    work(part);
    level.end();
  });
}

std::string shape(Rows<const float> x) { return "(" + std::to_string(x.count) + ", " + std::to_string(x.dim) + ")"; }

void require_finite(Rows<const float> x, const char* name, int threads) {
  std::vector<char> bad(static_cast<std::size_t>(x.count));
  parallel((x.count + kBlock - 1) / kBlock, threads, [&](std::int64_t part) {
    const std::int64_t last = std::min(x.count, (part + 1) * kBlock);
    for (std::int64_t row = part * kBlock; row < last; ++row) {
      float none[8] = {};  // 0 times what is not finite is NaN
      const float* at = x.row(row);
      std::int64_t i = 0;
      for (; i + 8 <= x.dim; i += 8)
        for (int lane = 0; lane < 8; ++lane) none[lane] += 0.0f * at[i + lane];
      for (; i < x.dim; ++i) none[0] += 0.0f * at[i];
      float all_of_them = 0;
      for (const float lane : none) all_of_them += lane;
      bad[static_cast<std::size_t>(row)] = all_of_them != 0.0f || std::isnan(all_of_them);
    }
  });
  const auto found = std::find(bad.begin(), bad.end(), 1);
  if (found != bad.end())
    throw std::invalid_argument(std::string(name) + " row " + std::to_string(found - bad.begin()) + " of " +
                                std::to_string(x.count) + " holds a value that is not finite");
}

void require(const Batch& batch, std::int64_t at_least) {
  const auto &s = batch.student, &t = batch.teacher;
  if (s.count != t.count || s.dim != t.dim)
    throw std::invalid_argument("student has shape " + shape(s) + ", teacher has shape " + shape(t) +
                                ": expected one row each, of one width");
  if (s.count < at_least || s.dim < 1)
    throw std::invalid_argument("student has shape " + shape(s) + ": expected at least " + std::to_string(at_least) +
                                " rows of at least 1 dim");
  require_finite(s, "student", batch.threads);
  require_finite(t, "teacher", batch.threads);
}

void require_finite_value(double value) {
  if (!std::isfinite(value))
    throw std::invalid_argument("the loss is not finite: products of these vectors are beyond float32");
}

// A tile's scores of `rows` left rows against `columns` rows in columns form.
void multiply(const BatchKernels& level, std::int64_t rows, std::int64_t columns, std::int64_t words, const Word* left,
              const Word* right, float* out) {
  for (std::int64_t column = 0; column < columns; column += kPanel)
    level.multiply(rows, words, left, words, right + column * words, out + column * rows);
}

// Panels of `rows` rows of floats, times a factor, to rows that lie `dim` apart.
void lay_out(const float* panels, std::int64_t rows, std::int64_t from_rows, std::int64_t dim, float factor,
             float* out) {
  for (std::int64_t first = 0; first < dim; first += kPanel) {
    const std::int64_t width = std::min(kPanel, dim - first);
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t i = 0; i < width; ++i)
        out[row * dim + first + i] = factor * panels[first * from_rows + row * kPanel + i];
  }
}

}  // namespace
}  // namespace leafkit
