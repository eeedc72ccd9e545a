// The definition of every tile, in the order one would say it. Read, never tuned.
#include <bit>
#include <cmath>
#include <initializer_list>

#include "base/halves.h"
#include "search/encode.h"
#include "search/tiles.h"

namespace leafkit {
namespace {

std::uint32_t word(const TileIn& in, std::int64_t step, int lane) {
  return static_cast<const std::uint32_t*>(in.group)[step * kGroup + lane];
}

float score_float32(const TileIn& in, const std::uint32_t* query, int lane, int) {
  float sum = 0;
  for (std::int64_t i = 0; i < in.steps; ++i)
    sum += std::bit_cast<float>(query[i]) * std::bit_cast<float>(word(in, i, lane));
  return sum;
}

float score_float16(const TileIn& in, const std::uint32_t* query, int lane, int) {
  const auto* halves = static_cast<const std::uint16_t*>(in.group);
  float sum = 0;
  for (std::int64_t i = 0; i < in.steps; ++i)
    sum += std::bit_cast<float>(query[i]) * from_float16(halves[i * kGroup + lane]);
  return sum;
}

float score_bfloat16(const TileIn& in, const std::uint32_t* query, int lane, int) {
  float sum = 0;
  for (std::int64_t i = 0; i < in.steps; ++i)
    for (const int shift : {0, 16})
      sum += from_bfloat16(static_cast<std::uint16_t>(query[i] >> shift)) *
             from_bfloat16(static_cast<std::uint16_t>(word(in, i, lane) >> shift));
  return sum;
}

float score_int8(const TileIn& in, const std::uint32_t* query, int lane, int q) {
  std::int32_t sum = in.start[lane];
  for (std::int64_t i = 0; i < in.steps; ++i)
    for (const int shift : {0, 8, 16, 24})
      sum += static_cast<std::uint8_t>(query[i] >> shift) * static_cast<std::int8_t>(word(in, i, lane) >> shift);
  return static_cast<float>(sum) * in.scale[lane] * in.query_scale[q];
}

float score_binary(const TileIn& in, const std::uint32_t* query, int lane, int) {
  int distance = 0;
  for (std::int64_t i = 0; i < in.steps; ++i) distance += std::popcount(query[i] ^ word(in, i, lane));
  return static_cast<float>(in.dim - 2 * distance);
}

template <float (*Score)(const TileIn&, const std::uint32_t*, int, int)>
void tile(int queries, const TileIn& in, TileOut& out) {
  for (int q = 0; q < queries; ++q) {
    out.masks[q] = 0;
    for (int lane = 0; lane < kGroup; ++lane) {
      const float score = Score(in, in.queries + q * in.query_stride, lane, q);
      out.scores[q][lane] = score;
      if (!(score < in.threshold[q])) out.masks[q] |= std::uint64_t{1} << lane;
    }
  }
}

void transpose(const std::uint32_t* words, std::int64_t stride, std::int64_t steps, std::uint32_t* group) {
  for (int row = 0; row < kPart; ++row)
    for (std::int64_t step = 0; step < steps; ++step) group[step * kGroup + row] = words[row * stride + step];
}

DotSum dot(const float* a, const float* b, std::int64_t dim) {
  double high = 0, low = 0, magnitude = 0;
  for (std::int64_t i = 0; i < dim; ++i) {
    const double product = static_cast<double>(a[i]) * static_cast<double>(b[i]);  // exact: 48 bits
    const double sum = high + product, part = sum - high;
    low += (high - (sum - part)) + (product - part);  // what the addition lost (Knuth's two-sum)
    high = sum;
    magnitude += std::abs(product);
  }
  return {high, low, magnitude};
}

float row_dot(const float* query, const float* row, std::int64_t dim, float* itself) {
  float sum = 0;
  *itself = 0;
  for (std::int64_t i = 0; i < dim; ++i) {
    sum += query[i] * row[i];
    *itself += row[i] * row[i];
  }
  return sum;
}

}  // namespace

const Kernels kKernelsScalar = {
    .in_place = Type::float32,
    .tile = {&tile<score_float32>, &tile<score_bfloat16>, &tile<score_float16>, &tile<score_int8>, &tile<score_binary>},
    .tile_queries = {kTileQueries, kTileQueries, kTileQueries, kTileQueries, kTileQueries},
    .enter = &nothing,
    .leave = &nothing,
    .encode = &encode,
    .transpose = &transpose,
    .dot = &dot,
    .row_dot = &row_dot,
};

}  // namespace leafkit
