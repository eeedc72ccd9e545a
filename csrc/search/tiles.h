// search/tiles.h: what a level supplies to the skeleton, and the layout of documents that it reads.
//
// Documents are packed in groups of 64. A group is `steps` runs of 64 lanes, a lane holding the same few dimensions of
// each of its documents, so that a sum stays in its lane and a group is read as one stream:
//   type      dimensions a step   lane
//   float32   1                   float
//   float16   1                   half
//   bfloat16  2                   two halves of a float
//   int8      4                   four signed bytes
//   binary    32                  32 sign bits
#pragma once

#include <cstddef>
#include <cstdint>

namespace leafkit {

enum class Type { float32, bfloat16, float16, int8, binary };
constexpr int kTypes = 5;
constexpr int kGroup = 64;       // documents
constexpr int kTileQueries = 6;  // of a tile of vectors: 24 sums of 16 lanes, 4 documents and a query in 32 registers
constexpr int kMostTileQueries = 16;  // of any tile
constexpr int kPart = 16;             // rows transposed at once

constexpr std::int64_t dims_per_step(Type type) {
  return type == Type::binary ? 32 : type == Type::int8 ? 4 : type == Type::bfloat16 ? 2 : 1;
}
constexpr std::int64_t lane_bytes(Type type) { return type == Type::float16 ? 2 : 4; }

// What a tile reads. Queries are prepared in the type's own form: float32 (float32 and float16 documents), pairs of
// bfloat16, bytes + 128 (int8), sign bits; one word of four bytes a step.
struct TileIn {
  const std::uint32_t* queries;  // row q at queries + q * query_stride; 16 rows may be read
  std::int64_t query_stride;
  const void* group;
  std::int64_t steps;
  std::int64_t dim;
  const float* query_scale;   // int8: one a query
  const float* scale;         // int8: one a document
  const std::int32_t* start;  // int8: -128 times the sum of a document's codes
  const float* threshold;     // one a query
  const std::byte* ahead;     // `steps` cache lines that will be wanted soon, fetched on the way
};

// masks[q] bit d: the score of query q and document d is not below the query's threshold (NaN is not). scores[q] is
// written where masks[q] is not 0. Scores: inner products of the prepared values; binary: dim - 2 * Hamming distance.
struct TileOut {
  alignas(64) float scores[kMostTileQueries][kGroup];
  std::uint64_t masks[kMostTileQueries];
};

using Tile = void (*)(int queries, const TileIn& in, TileOut& out);

// What is known of a row and its form: |row - form|^2 and |form|^2, summed in float32; for int8 the scale and the sum
// of the codes.
struct Encoded {
  float residual, norm, scale;
  std::int32_t code_sum;
};

// A sum in two parts, and the sum of its terms' magnitudes.
struct DotSum {
  double high, low, magnitude;
};

struct Kernels {
  Type in_place;  // what float32 documents become that are packed as they are scanned
  Tile tile[kTypes];
  int tile_queries[kTypes];  // that a tile takes at most
  void (*enter)();           // before tiles are called on a thread, and again where other code may have run there
  void (*leave)();
  // Writes the words of one row, and zeros up to a whole vector. float16: two dimensions a word, as bfloat16. int8: the
  // scale of every dimension, or null: the row's own.
  Encoded (*encode)(Type type, const float* row, std::int64_t dim, const float* dim_scale, std::uint32_t* words);
  // 16 rows of words become one quarter of a group: word `step` of row r goes to group[step * 64 + r].
  void (*transpose)(const std::uint32_t* words, std::int64_t stride, std::int64_t steps, std::uint32_t* group);
  // The inner product of two float32 vectors: products exact, what the additions lost beside their sum
  // (search/exact.h).
  DotSum (*dot)(const float* a, const float* b, std::int64_t dim);
  // A query's inner product with a row, and the row's with itself, in float32.
  float (*row_dot)(const float* query, const float* row, std::int64_t dim, float* itself);
};

namespace {  // unnamed: see base/views.h
inline void nothing() {}
}  // namespace

extern const Kernels kKernelsScalar;
#ifdef LEAFKIT_X86
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;
extern const Tile kInt8Avx2;        // with AVX-VNNI
extern const Tile kBfloat16Avx512;  // with the instructions of AVX512_BF16, _VNNI and _VPOPCNTDQ
extern const Tile kInt8Avx512;
extern const Tile kBinaryAvx512;
extern const Tile kBfloat16Amx;
extern const Tile kInt8Amx;
extern void (*const kEnterAmx)();
extern void (*const kLeaveAmx)();
#endif

}  // namespace leafkit
