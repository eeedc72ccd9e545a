// losses/forms.h: what a level compiles for the losses of a batch: the forms of matrices, their products, and the work
// on tiles of scores. Written once for whatever a word holds (base/words.h).
//
// Forms, all padded with zeros to multiples of kPanel:
//   rows     (N, D / n)         words along D: left side of a product over D
//   columns  [N / 32][D / n][32]  words along D, 32 rows beside each other: right side of a product over D
//   pairs    [D / 32][N / n][32]  n rows interleaved, 32 dims beside each other: right side of a product over N
// A product has 32 columns, and a tile of scores lies as its products leave it: [columns / 32][rows][32].
#pragma once

#include <cstdint>

#include "base/views.h"

namespace leafkit {

constexpr std::int64_t kPanel = 32;
constexpr float kNowhere = -1e30f;  // the score of what is not there; finite, so that differences are numbers

// What is known of the softmax over the scores of one row, seen in any order.
struct Sums {
  float* top;  // the largest
  float* sum;  // of exp(score - top)
};

struct Tile {
  std::int64_t rows, columns;
  float scale;                // scores are multiplied by it
  std::int64_t own;           // column of row 0's own text, that of row 1 lies beside it; -rows or less where none is
  std::int64_t there, valid;  // rows and columns that are there, the others are padding
};

struct BatchKernels {
  std::int64_t values;  // of a word
  void (*begin)();
  void (*end)();
  void (*take)(Rows<const float> x, std::int64_t first, std::int64_t last, std::int64_t whole_dim, std::uint32_t* out);
  void (*columns)(std::int64_t rows, std::int64_t words, const std::uint32_t* in, std::uint32_t* out);
  void (*pairs)(std::int64_t rows, std::int64_t words, const std::uint32_t* in, std::uint32_t* out);
  void (*turn)(std::int64_t rows, std::int64_t columns, const std::uint32_t* in, std::uint32_t* out);
  void (*multiply)(std::int64_t rows, std::int64_t words, const std::uint32_t* left, std::int64_t left_stride,
                   const std::uint32_t* panel, float* out);
  void (*add)(std::int64_t rows, std::int64_t words, const std::uint32_t* left, std::int64_t left_stride,
              const std::uint32_t* panel, float* out);
  // The scores of each row into its sums, its own one left out and kept in `own`; exp(score - top) as the rows of the
  // next product, and the factor by which what was summed up to now has to shrink.
  void (*weigh)(const Tile& tile, float* scores, Sums sums, float* own, float* shrink, std::uint32_t* weights);
  void (*shrink)(std::int64_t rows, std::int64_t panels, const float* factors, float* sums);
  // The scores of each row, and of each column where there are sums for them, into their sums.
  void (*observe)(const Tile& tile, float* scores, Sums rows, Sums columns);
  // The slope of the divergence in each score, of row and column together, as rows and as pairs; returns the divergence
  // of the rows, and of the columns unless the tile has its own texts.
  double (*differ)(const Tile& tile, float* student, float* teacher, const float* const (&of_rows)[2],
                   const float* const (&of_columns)[2], std::uint32_t* out, std::uint32_t* out_pairs);
};

extern const BatchKernels kBatchScalar;
#ifdef LEAFKIT_X86
extern const BatchKernels kBatchAvx2;
extern const BatchKernels kBatchAvx512;
extern const BatchKernels kBatchNarrow;  // multiplies bfloat16
extern const BatchKernels kBatchAmx;     // multiplies tiles of it
#endif

}  // namespace leafkit
