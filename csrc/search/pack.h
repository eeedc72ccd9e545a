// search/pack.h: documents and queries in the form that tiles read, and how far that form is from the float32 rows.
#pragma once

#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "base/views.h"
#include "search/tiles.h"

namespace leafkit {

// Largest distances in a group, rounded up: with them a tile's score bounds the exact one (search/bounds.h).
struct Distance {
  float residual;  // |d - d'|, d' being what the codes stand for
  float norm;      // |d'|
};

// Documents in groups of 64; the lanes past the last document hold zeros.
struct Packed {
  Type type;
  std::int64_t count, dim, steps, group_bytes;
  Bytes groups;
  std::vector<float> scale;         // int8: a document's value is scale x code (1 where each dimension has its own)
  std::vector<std::int32_t> start;  // int8: -128 times the sum of the codes
  std::vector<float> dim_scale;     // int8: one a dimension, or empty; multiplied into the queries
  std::vector<Distance> distance;   // one a group

  const std::byte* group(std::int64_t number) const { return groups.get() + number * group_bytes; }
  std::int64_t group_count() const { return (count + kGroup - 1) / kGroup; }
  std::int64_t bytes() const;
};

std::int64_t steps_of(Type type, std::int64_t dim);

// Writes groups of one type, one after another; holds what it needs on the way (less than two groups).
class GroupWriter {
 public:
  GroupWriter(const Kernels& kernels, Type type, std::int64_t dim, const float* dim_scale);

  // Rows of a group, at most 64. `scale` and `start`: 64 of each, for int8. Zeros in the lanes behind the last.
  Distance write(const float* const* rows, int count, void* group, float* scale, std::int32_t* start);

 private:
  const Kernels& kernels_;
  Type type_;
  std::int64_t dim_, steps_, stride_;  // words
  const float* dim_scale_;
  std::vector<std::uint32_t> words_, pairs_;
};

// Rows of two bytes a value, or none.
struct Halves {
  Rows<const std::uint16_t> rows;
  Type type;  // bfloat16 or float16

  void widen(std::int64_t number, float* out) const;
};

// Packs float32 rows, or halves where `rows` has none, on `threads` threads. `dim_scale`: int8 steps of each dimension,
// or null: then every document has its own, its largest magnitude over 127. Throws std::invalid_argument where int8
// sums could overflow (dim above 65,536).
Packed pack(Rows<const float> rows, const Halves& halves, Type type, const float* dim_scale, const Kernels& kernels,
            int threads);

// Queries in the form of a type.
struct Prepared {
  std::int64_t stride;  // words a query
  std::vector<std::uint32_t> words;
  std::vector<float> scale;        // int8
  std::vector<Distance> distance;  // |q - q'| and |q|, one a query
};

Prepared prepare(Rows<const float> queries, Type type, const float* dim_scale, const Kernels& kernels);

}  // namespace leafkit
