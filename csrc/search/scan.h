// search/scan.h: scores of one block of queries against one block of documents, tile by tile.
// A level supplies one Tile: kQueries x kDocuments dot products at once. Edges are tiles of one. Every tile sums a row
// in the same order, so that a document's score does not depend on where it lies.
#pragma once

#include <cstdint>

#include "base/views.h"

namespace leafkit {
namespace {  // unnamed: the linker must never hand code of one level's file to another CPU

template <class Tile, int Q, int D>
[[gnu::always_inline]] inline void column(const Rows<const float>& queries, const Rows<const float>& documents,
                                          std::int64_t q, std::int64_t d, float* out) {
  Tile::template scores<Q, D>(queries.row(q), queries.stride, documents.row(d), documents.stride, queries.dim,
                              out + q * documents.count + d, documents.count);
}

template <class Tile>
void score_block(Rows<const float> queries, Rows<const float> documents, float* out) {
  constexpr int kQ = Tile::kQueries, kD = Tile::kDocuments;
  std::int64_t d = 0;
  for (; d + kD <= documents.count; d += kD) {  // documents outside: kD rows stay in L1 while all queries pass
    std::int64_t q = 0;
    for (; q + kQ <= queries.count; q += kQ) column<Tile, kQ, kD>(queries, documents, q, d, out);
    for (; q < queries.count; ++q) column<Tile, 1, kD>(queries, documents, q, d, out);
  }
  for (; d < documents.count; ++d)
    for (std::int64_t q = 0; q < queries.count; ++q) column<Tile, 1, 1>(queries, documents, q, d, out);
}

}  // namespace
}  // namespace leafkit
