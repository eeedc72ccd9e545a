// cuda/search.cuh: a tile of queries before a part of the documents, tile after tile; what passes a query's threshold
// is appended to its list, and a full list is cut to its best k, whose last becomes the threshold. No score is kept
// that did not pass, and no list is longer than its place.
#pragma once

#include "cuda/select.cuh"
#include "cuda/tile.cuh"

namespace leafkit::cuda {

// Keys of a list: a power of two that holds the best k and what one tile can add.
constexpr int list_length(std::int64_t k) {
  int length = 2 * kTileColumns;
  while (length < k + kTileColumns) length *= 2;
  return length;
}

struct Scan {
  Side queries, documents;
  std::int64_t k, part;  // documents of a part, whole tiles
  int length;            // of a list
  const std::uint32_t* allowed;
  std::int64_t allowed_stride;
  const float *query_scales, *document_scales;  // int8
  std::int64_t dim;                             // binary: a score is dim - 2 x bits that differ
  Key* lists;                                   // (tiles of queries x parts) x rows of a tile x length
  Key* best;                                    // queries x parts x k
};

__device__ __forceinline__ bool may(const Scan& of, std::int64_t query, std::int64_t row) {
  return of.allowed == nullptr || (of.allowed[query * of.allowed_stride + row / 32] >> (row % 32) & 1u) != 0;
}

template <class Tile, bool kBinary>
__global__ void __launch_bounds__(kTileThreads, Tile::kBlocks) scan(Scan of) {
  auto* shared = static_cast<unsigned char*>(shared_memory());
  const std::size_t work = Tile::kShared > sizeof(Key) * of.length ? Tile::kShared : sizeof(Key) * of.length;
  Key* sorted = reinterpret_cast<Key*>(shared);  // in the tile's place, between tiles
  Key* thresholds = reinterpret_cast<Key*>(shared + work);
  int* counts = reinterpret_cast<int*>(thresholds + Tile::kRows);
  const std::int64_t query0 = static_cast<std::int64_t>(blockIdx.x) * Tile::kRows;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * of.part;
  const std::int64_t last = first + of.part < of.documents.rows ? first + of.part : of.documents.rows;
  Key* lists = of.lists + (static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y) * Tile::kRows * of.length;
  for (int row = static_cast<int>(threadIdx.x); row < Tile::kRows; row += kTileThreads)
    thresholds[row] = kNothing, counts[row] = 0;
  __syncthreads();
  // Cuts a list to its best k.
  const auto cut = [&](int row) {
    const int count = counts[row];
    for (int i = static_cast<int>(threadIdx.x); i < of.length; i += kTileThreads)
      sorted[i] = i < count ? lists[row * of.length + i] : kNothing;
    sort_keys(sorted, of.length);
    const int kept = count < of.k ? count : static_cast<int>(of.k);
    for (int i = static_cast<int>(threadIdx.x); i < kept; i += kTileThreads) lists[row * of.length + i] = sorted[i];
    if (threadIdx.x == 0) {
      counts[row] = kept;
      if (kept == of.k) thresholds[row] = sorted[kept - 1];
    }
    __syncthreads();
  };
  Tile tile;
  for (std::int64_t document0 = first; document0 < last; document0 += kTileColumns) {
    tile.multiply(of.queries, query0, of.documents, document0, shared);
    tile.each([&](int row, int column, typename Tile::Sum sum) {
      const std::int64_t query = query0 + row, document = document0 + column;
      if (query >= of.queries.rows || document >= last || !may(of, query, document)) return;
      float score = static_cast<float>(sum);
      if (kBinary) score = static_cast<float>(of.dim - 2 * static_cast<std::int64_t>(sum));
      if (of.document_scales != nullptr) score = score * of.document_scales[document] * of.query_scales[query];
      const Key key = key_of(score, static_cast<std::uint32_t>(document));
      if (key > thresholds[row]) lists[row * of.length + atomicAdd(&counts[row], 1)] = key;
    });
    __syncthreads();
    for (int row = 0; row < Tile::kRows; ++row)
      if (counts[row] > of.length - kTileColumns) cut(row);
  }
  for (int row = 0; row < Tile::kRows && query0 + row < of.queries.rows; ++row) {
    cut(row);
    Key* out = of.best + ((query0 + row) * gridDim.y + blockIdx.y) * of.k;
    for (int i = static_cast<int>(threadIdx.x); i < of.k; i += kTileThreads)
      out[i] = i < counts[row] ? lists[row * of.length + i] : kNothing;
    __syncthreads();
  }
}

// The best k of all parts, a block a query. `length` is a power of two from 2 k up.
static __global__ void __launch_bounds__(kTileThreads)
    merge(const Key* best, int parts, int k, int length, int wanted, float* scores, std::int64_t* rows, Key* keys) {
  Key* sorted = static_cast<Key*>(shared_memory());
  const std::int64_t query = blockIdx.x, count = static_cast<std::int64_t>(parts) * k;
  const Key* of = best + query * count;
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kTileThreads) sorted[i] = kNothing;
  for (std::int64_t next = 0; next < count; next += length - k) {
    for (int i = k + static_cast<int>(threadIdx.x); i < length; i += kTileThreads)
      sorted[i] = next + i - k < count ? of[next + i - k] : kNothing;
    sort_keys(sorted, length);
  }
  for (int i = static_cast<int>(threadIdx.x); i < wanted; i += kTileThreads) {
    if (keys != nullptr) {
      keys[query * wanted + i] = sorted[i];
      continue;
    }
    const bool there = sorted[i] != kNothing;
    scores[query * wanted + i] = there ? score_of_key(sorted[i]) : -INFINITY;
    rows[query * wanted + i] = there ? static_cast<std::int64_t>(row_of_key(sorted[i])) : -1;
  }
}

// Scores the keys' rows again in float64, where products of float32 are exact, and ranks by that. A block a query.
static __global__ void __launch_bounds__(kTileThreads)
    rescore(const Key* keys, int count, int length, int wanted, const float* queries, const float* documents,
            std::int64_t dim, float* scores, std::int64_t* rows) {
  WideKey* sorted = static_cast<WideKey*>(shared_memory());
  const std::int64_t query = blockIdx.x;
  for (int i = warp_index(); i < length; i += kTileThreads / 32) {
    const Key key = i < count ? keys[query * count + i] : kNothing;
    double sum = 0;
    if (key != kNothing) {
      const float *q = queries + query * dim, *d = documents + static_cast<std::int64_t>(row_of_key(key)) * dim;
      for (std::int64_t j = lane_index(); j < dim; j += 32) sum += static_cast<double>(q[j]) * d[j];
      sum = warp_sum(sum);
    }
    if (lane_index() == 0)
      sorted[i] = key == kNothing ? WideKey{0, 0xffffffffu} : WideKey{order_of(sum), row_of_key(key)};
  }
  sort_keys(sorted, length);
  for (int i = static_cast<int>(threadIdx.x); i < wanted; i += kTileThreads) {
    const bool there = sorted[i].order != 0;
    scores[query * wanted + i] = there ? static_cast<float>(score_of(sorted[i].order)) : -INFINITY;
    rows[query * wanted + i] = there ? static_cast<std::int64_t>(sorted[i].row) : -1;
  }
}

}  // namespace leafkit::cuda
