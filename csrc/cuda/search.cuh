// cuda/search.cuh: a tile of queries before a part of the documents, tile after tile; what passes a query's threshold
// is appended to its list, and a full list is cut to its best k, whose last becomes the threshold. No score is kept
// that did not pass, and no list is longer than its place.
#pragma once

#include <type_traits>

#include "cuda/select.cuh"
#include "cuda/tile.cuh"

namespace leafkit::cuda {

// Keys of a list: a power of two that holds the best k, what one tile can add, and as many more as make cuts rare.
constexpr int list_length(std::int64_t k) {
  constexpr std::int64_t kMore = 512;
  int length = 2 * kTileColumns;
  while (length < k + kTileColumns + (k < kMore ? k : kMore)) length *= 2;
  return length;
}
// Lists that are cut at once: short ones by a warp each, long ones by the block.
__host__ __device__ constexpr int cut_at_once(int length) { return length <= 512 ? kTileThreads / 32 : 1; }

struct Scan {
  Side queries, documents;
  int k, length;      // of a list
  std::int64_t part;  // documents of a part, whole tiles
  const std::uint32_t* allowed;
  std::int64_t allowed_stride;
  const float *query_scales, *document_scales;  // int8
  int dim;                                      // binary: a score is dim - 2 x bits that differ
  Key* lists;                                   // (tiles of queries x parts) x rows of a tile x length
  Key* best;                                    // queries x parts x k
};

__device__ __forceinline__ bool may(const Scan& of, std::int64_t query, std::int64_t row) {
  return of.allowed == nullptr || (of.allowed[query * of.allowed_stride + row / 32] >> (row % 32) & 1u) != 0;
}

template <class Tile, bool kBinary>
__global__ void __launch_bounds__(kTileThreads, Tile::kBlocks) scan(Scan of) {
  Key* thresholds = static_cast<Key*>(shared_memory());
  int* counts = reinterpret_cast<int*>(thresholds + Tile::kRows);
  void* shared = counts + Tile::kRows;      // of the tile
  Key* sorted = static_cast<Key*>(shared);  // and between tiles of lists
  const std::int64_t query0 = static_cast<std::int64_t>(blockIdx.x) * Tile::kRows;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * of.part;
  const std::int64_t last = first + of.part < of.documents.rows ? first + of.part : of.documents.rows;
  const std::int64_t queries_left = of.queries.rows - query0;
  const int own_rows = queries_left < Tile::kRows ? static_cast<int>(queries_left) : Tile::kRows;
  // Formed anew for each use: fewer registers held through the multiplication.
  const auto list_of = [&](int row) {
    const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y;
    return of.lists + (block * Tile::kRows + row) * of.length;
  };
  for (int row = static_cast<int>(threadIdx.x); row < Tile::kRows; row += kTileThreads)
    thresholds[row] = row < own_rows ? kNothing : kAboveAll, counts[row] = 0;
  __syncthreads();
  // Cuts the lists that hold more than `most`.
  const auto cut_above = [&](int most) {
    if (cut_at_once(of.length) == 1) {
      for (int row = 0; row < own_rows; ++row)
        if (counts[row] > most) cut<ByBlock>(list_of(row), counts[row], of.k, sorted, &counts[row], &thresholds[row]);
      return;
    }
    Key* own = sorted + warp_index() * of.length;
    for (int row = warp_index(); row < own_rows; row += kTileThreads / 32)
      if (counts[row] > most) cut<ByWarp>(list_of(row), counts[row], of.k, own, &counts[row], &thresholds[row]);
  };
  Tile tile;
  for (std::int64_t document0 = first; document0 < last; document0 += kTileColumns) {
    tile.multiply(of.queries, query0, of.documents, document0, shared);
    const int own_columns = last - document0 < kTileColumns ? static_cast<int>(last - document0) : kTileColumns;
    tile.each([&](int row, int column, typename Tile::Sum sum) {
      if (column >= own_columns) return;
      float score = static_cast<float>(sum);
      if constexpr (kBinary) {
        score = static_cast<float>(of.dim - 2 * sum);
      } else if constexpr (std::is_integral_v<typename Tile::Sum>) {
        const int query = row < own_rows ? row : own_rows - 1;
        score = score * of.document_scales[document0 + column] * of.query_scales[query0 + query];
      }
      const Key key = key_of(score, static_cast<std::uint32_t>(document0 + column));
      if (key > thresholds[row] && may(of, query0 + row, document0 + column))
        list_of(row)[atomicAdd(&counts[row], 1)] = key;
    });
    __syncthreads();
    cut_above(of.length - kTileColumns);
  }
  cut_above(0);
  for (int row = warp_index(); row < own_rows; row += kTileThreads / 32) {
    Key* out = of.best + ((query0 + row) * gridDim.y + blockIdx.y) * of.k;
    for (int i = lane_index(); i < of.k; i += 32) out[i] = i < counts[row] ? list_of(row)[i] : kNothing;
  }
}

// Keys that `merge` sorts at once: the best k and what one round can add, a power of two.
__host__ __device__ constexpr int merge_length(std::int64_t k) {
  int length = 2 * kTileThreads;
  while (length < k + kTileThreads) length *= 2;
  return length;
}

// The best k of all parts, a block a query: first the best of every part, then the second best, and so on, until none
// passes the threshold, as what follows in a part is no better.
static __global__ void __launch_bounds__(kTileThreads)
    merge(const Key* best, int parts, int k, int wanted, float* scores, std::int64_t* rows, Key* keys) {
  const int length = merge_length(k);
  Key* list = static_cast<Key*>(shared_memory());
  Key* threshold = list + length;
  int* counts = reinterpret_cast<int*>(threshold + 1);  // keys held, and keys that passed since the ranks began
  const std::int64_t query = blockIdx.x;
  const Key* of = best + query * parts * k;
  const int own = static_cast<int>(threadIdx.x);
  if (own == 0) *threshold = kNothing, counts[0] = 0, counts[1] = 0;
  __syncthreads();
  int passed_before = 0;
  for (int rank = 0; rank < k; ++rank) {
    for (int part0 = 0; part0 < parts; part0 += kTileThreads) {
      const Key key = part0 + own < parts ? of[static_cast<std::int64_t>(part0 + own) * k + rank] : kNothing;
      if (key > *threshold) {
        list[atomicAdd(&counts[0], 1)] = key;
        atomicAdd(&counts[1], 1);
      }
      __syncthreads();
      const int held = counts[0];
      __syncthreads();
      if (held > length - kTileThreads) cut<ByBlock>(list, held, k, list, &counts[0], threshold);
    }
    const int passed = counts[1];
    __syncthreads();
    if (passed == passed_before) break;
    passed_before = passed;
  }
  const int held = counts[0];
  __syncthreads();
  cut<ByBlock>(list, held, k, list, &counts[0], threshold);
  const int kept = counts[0];
  for (int i = own; i < wanted; i += kTileThreads) {
    const Key key = i < kept ? list[i] : kNothing;
    if (keys != nullptr) {
      keys[query * wanted + i] = key;
      continue;
    }
    scores[query * wanted + i] = key != kNothing ? score_of_key(key) : -INFINITY;
    rows[query * wanted + i] = key != kNothing ? static_cast<std::int64_t>(row_of_key(key)) : -1;
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
  sort_keys<ByBlock>(sorted, length);
  for (int i = static_cast<int>(threadIdx.x); i < wanted; i += kTileThreads) {
    const bool there = sorted[i].order != 0;
    scores[query * wanted + i] = there ? static_cast<float>(score_of(sorted[i].order)) : -INFINITY;
    rows[query * wanted + i] = there ? static_cast<std::int64_t>(sorted[i].row) : -1;
  }
}

}  // namespace leafkit::cuda
