// search/search.h: exact inner-product search.
#pragma once

#include <cstdint>
#include <functional>

#include "base/cpu.h"
#include "base/views.h"

namespace leafkit {

// Scores of a block: out[q * documents + d] = queries.row(q) . documents.row(d).
using ScoreBlock = void (*)(Rows<const float> queries, Rows<const float> documents, float* out);

// Writes min(k, documents.count) scores and rows a query, best first. `wanted` is asked between blocks, by every
// thread: it may throw, and where it says false the answer is not wanted any more and the thread stops.
void search_topk(Rows<const float> queries, Rows<const float> documents, std::int64_t k, int threads, Level level,
                 float* scores, std::int64_t* rows, const std::function<bool()>& wanted);

}  // namespace leafkit
