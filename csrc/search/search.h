// search/search.h: exact inner-product search.
#pragma once

#include <cstdint>
#include <functional>

#include "base/cpu.h"
#include "base/views.h"

namespace leafkit {

// Scores of a block: out[q * documents + d] = queries.row(q) . documents.row(d).
using ScoreBlock = void (*)(Rows<const float> queries, Rows<const float> documents, float* out);

// Writes min(k, documents.count) scores and rows a query, best first. `poll` is called between blocks and may throw.
void search_topk(Rows<const float> queries, Rows<const float> documents, std::int64_t k, int threads, Level level,
                 float* scores, std::int64_t* rows, const std::function<void()>& poll);

}  // namespace leafkit
