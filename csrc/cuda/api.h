// cuda/api.h: what the module calls. Pointers are the device's; every call is queued on its stream and waits for
// nothing; working memory is the caller's, so that a CUDA graph can hold a call. No kernel adds floats atomically: the
// same inputs give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace leafkit::cuda {

using Stream = void*;  // a cudaStream_t

enum class Type { float32, bfloat16, float16, int8, binary };
enum class Metric { squared_l2, l2, cosine, huber };
constexpr int kMostPrefixes = 64;

// Rows one after another, `stride` values apart.
struct Matrix {
  const void* data;
  std::int64_t rows, dim;
};

struct Alignment {
  Matrix student, teacher;  // float32 or bfloat16, both of one type
  Type type;
  Metric metric;
  int count;  // of prefixes
  std::int64_t widths[kMostPrefixes];
  float shares[kMostPrefixes];
  const float* weights;  // of the rows, or null
  bool unit_prefixes;
  float delta;
};
// Working memory in bytes; value is one float32, gradient of the student's type.
std::size_t alignment_memory(std::int64_t rows);
void alignment_loss(const Alignment& of, float* value, void* gradient, void* memory, Stream stream);

enum class BatchLoss { relational, listwise_kl, contrastive };
struct Batch {
  Matrix student, teacher;  // float32 or bfloat16, both of one type
  Type type;
  BatchLoss loss;
  float temperature;
  bool exact;  // products of float32; else of bfloat16, in the matrix unit
};
std::size_t batch_memory(const Batch& of);
void batch_loss(const Batch& of, float* value, void* gradient, void* memory, Stream stream);

// Documents as the scan reads them: rows of whole 16-byte words, what lies behind the last value is 0.
struct Packed {
  const void* codes;
  std::int64_t count, dim;
  std::int64_t stride;  // bytes from row to row
  const float* scales;  // int8: of each document
  Type type;
};
std::int64_t packed_stride(Type type, std::int64_t dim);
// From float32, bfloat16 or float16 rows; codes as the CPU's (docs/kernels.md). `dim_scales`: int8 only, or null.
void quantize(const Matrix& rows, Type from, Type to, const float* dim_scales, void* codes, float* scales,
              Stream stream);

constexpr std::int64_t kMostResults = 1024;
struct Search {
  Packed queries, documents;  // of one type
  std::int64_t k;
  const std::uint32_t* allowed;  // bits of 32 rows, or null
  std::int64_t allowed_stride;   // words from query to query; 0: one filter for all
  const float* exact_queries;    // float32: score the best again in float64 and rank by that, or null
  bool matrix_unit;              // where the type has one
  int parts;                     // of the documents, searched side by side
};
int search_blocks(const Search& of);  // that a multiprocessor holds at once, at least
std::size_t search_memory(const Search& of);
void search(const Search& of, float* scores, std::int64_t* rows, void* memory, Stream stream);

}  // namespace leafkit::cuda
