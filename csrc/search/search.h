// search/search.h: exact inner-product search.
#pragma once

#include <cstdint>
#include <functional>

#include "base/cpu.h"
#include "base/views.h"
#include "search/pack.h"

namespace leafkit {

// What is searched. Rows or codes are there, or both.
struct Documents {
  Rows<const float> rows;  // data is null where only codes are held
  const Packed* packed;    // null: rows are read, and packed as they are scanned
  Halves halves;           // rows to score again from, where `rows` has none

  std::int64_t count() const { return packed != nullptr ? packed->count : rows.count; }
  std::int64_t dim() const { return packed != nullptr ? packed->dim : rows.dim; }
};

// Rows that may be found: bit d % 64 of word d / 64. `stride` words from one query to the next, 0 where all share one.
struct Allowed {
  const std::uint64_t* words = nullptr;  // null: all rows
  std::int64_t stride = 0;
};

// How codes answer.
enum class Answer {
  own,       // scores of the codes are final
  exact,     // the answer of float64 arithmetic on the rows, proven: codes only rule documents out
  rescored,  // the best `overfetch` times k of the codes, ranked by float64 scores on the rows
};

struct Request {
  std::int64_t k;
  Answer answer;
  std::int64_t overfetch;
  Allowed allowed;
  int threads;
  Level level;
};

// Writes min(k, count) scores and rows a query, best first. Where fewer rows are allowed the rest is -inf and row -1.
// `wanted` is asked between blocks, by every thread: it may throw, and where it says false the answer is not wanted
// any more and the thread stops.
void search_topk(Rows<const float> queries, const Documents& documents, const Request& request, float* scores,
                 std::int64_t* rows, const std::function<bool()>& wanted);

}  // namespace leafkit
