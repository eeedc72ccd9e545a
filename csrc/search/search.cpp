#include "search/search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/pool.h"
#include "search/bounds.h"
#include "search/candidates.h"
#include "search/kernels.h"

namespace leafkit {
namespace {

constexpr std::int64_t kMostQueries = 1024;       // of a block: prepared, they stay in L2 or close to it
constexpr std::int64_t kQueryBytes = 32 << 20;    // of a block's candidates, roughly
constexpr std::int64_t kFewQueries = 8;           // below, rows in place are read one after another, unpacked
constexpr std::int64_t kGroupsBetweenLooks = 16;  // at `wanted`

// One block of queries on its way through documents.
struct QueryBlock {
  Rows<const float> queries;
  std::int64_t first;  // number of the first query in the call
  Prepared prepared;
  std::vector<Candidates> best;
};

class Search {
 public:
  Search(const Documents& documents, const Request& request, const std::function<bool()>& wanted)
      : documents_(documents),
        request_(request),
        wanted_(wanted),
        kernels_(kernels_of(request.level)),
        count_(documents.packed != nullptr ? documents.packed->count : documents.rows.count),
        dim_(documents.packed != nullptr ? documents.packed->dim : documents.rows.dim),
        type_(documents.packed != nullptr ? documents.packed->type : kernels_.in_place),
        kept_(request.answer == Answer::rescored ? request.k * request.overfetch : request.k) {
    kept_ = std::clamp<std::int64_t>(kept_, 1, std::max<std::int64_t>(count_, 1));
  }

  std::int64_t count() const { return count_; }

  std::int64_t block_queries() const {
    const std::int64_t bytes = 8 * kept_ * static_cast<std::int64_t>(sizeof(Candidate));
    return std::clamp<std::int64_t>(kQueryBytes / std::max<std::int64_t>(bytes, 1), 6, kMostQueries);
  }

  QueryBlock begin(Rows<const float> queries, std::int64_t first, std::int64_t number) const {
    const float* dim_scale = documents_.packed != nullptr && !documents_.packed->dim_scale.empty()
                                 ? documents_.packed->dim_scale.data()
                                 : nullptr;
    QueryBlock block{{queries.row(first), number, queries.dim, queries.stride}, first, {}, {}};
    block.prepared = prepare(block.queries, type_, dim_scale);
    block.best.assign(static_cast<std::size_t>(number), Candidates(kept_));
    return block;
  }

  std::int64_t groups() const { return (count_ + kGroup - 1) / kGroup; }

  // Passes groups [first, last) of documents before a block of queries, in rising row order.
  void scan(QueryBlock& block, std::int64_t first, std::int64_t last) const {
    if (documents_.packed == nullptr && block.queries.count < kFewQueries) return scan_rows(block, first, last);
    std::vector<std::uint32_t> scratch;
    if (documents_.packed == nullptr) scratch.resize(static_cast<std::size_t>(steps_of(type_, dim_) * kGroup + 16));
    TileOut out;
    for (std::int64_t number = first; number < last; ++number) {
      if ((number - first) % kGroupsBetweenLooks == 0 && !wanted_()) return;
      if (nobody_wants(block, number)) continue;
      TileIn in{};
      Distance distance{};
      if (const Packed* packed = documents_.packed; packed != nullptr) {
        in.group = packed->group(number);
        distance = packed->distance[static_cast<std::size_t>(number)];
        if (type_ == Type::int8) {
          in.scale = packed->scale.data() + number * kGroup;
          in.start = packed->start.data() + number * kGroup;
        }
      } else {
        auto* aligned =
            reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(scratch.data()) + 63) / 64 * 64);
        const Rows<const float> rows = rows_of_group(number);
        float squares[kGroup];
        kernels_.pack(type_, rows.data, rows.stride, static_cast<int>(rows.count), dim_, aligned, squares);
        float most = 0;
        for (const float one : squares)
          most = std::isnan(one) ? std::numeric_limits<float>::infinity() : std::max(most, one);
        distance = distance_of_squares(type_, most, dim_);
        in.group = aligned;
      }
      in.steps = steps_of(type_, dim_);
      in.dim = dim_;
      pass(block, number, in, distance, out);
    }
  }

  // Ends a block: writes the best of every query.
  void finish(QueryBlock& block, std::int64_t found, float* scores, std::int64_t* rows) const {
    for (std::int64_t q = 0; q < block.queries.count && wanted_(); ++q) {
      Candidates& best = block.best[static_cast<std::size_t>(q)];
      if (request_.answer == Answer::exact) {
        resolve(best, block.queries.row(q));
      } else {
        best.rank();
      }
      std::vector<Candidate> kept = best.kept();
      if (request_.answer == Answer::rescored) {
        for (Candidate& one : kept) one.low = kernels_.dot(block.queries.row(q), documents_.rows.row(one.row), dim_);
        std::sort(kept.begin(), kept.end(), lower_bound_before);
      }
      const std::int64_t at = (block.first + q) * found;
      for (std::int64_t i = 0; i < found; ++i) {
        const bool there = i < static_cast<std::int64_t>(kept.size());
        scores[at + i] =
            there ? static_cast<float>(kept[static_cast<std::size_t>(i)].low) : -std::numeric_limits<float>::infinity();
        rows[at + i] = there ? kept[static_cast<std::size_t>(i)].row : -1;
      }
    }
  }

 private:
  Rows<const float> rows_of_group(std::int64_t number) const {
    const std::int64_t row = number * kGroup;
    return {documents_.rows.row(row), std::min<std::int64_t>(kGroup, count_ - row), dim_, documents_.rows.stride};
  }

  std::uint64_t allowed(std::int64_t query, std::int64_t number) const {
    const std::int64_t left = count_ - number * kGroup;
    const std::uint64_t there = left >= kGroup ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
    return request_.allowed.words == nullptr ? there
                                             : there & request_.allowed.words[query * request_.allowed.stride + number];
  }

  bool nobody_wants(const QueryBlock& block, std::int64_t number) const {
    if (request_.allowed.words == nullptr) return false;
    if (request_.allowed.stride == 0) return allowed(0, number) == 0;
    for (std::int64_t q = 0; q < block.queries.count; ++q)
      if (allowed(block.first + q, number) != 0) return false;
    return true;
  }

  // All queries of a block before one group, in tiles of nearly equal size: a last tile of one would be slow.
  void pass(QueryBlock& block, std::int64_t number, TileIn& in, Distance distance, TileOut& out) const {
    const std::int64_t queries = block.queries.count, tiles = (queries + kTileQueries - 1) / kTileQueries;
    const Tile tile = kernels_.tile[static_cast<int>(type_)];
    in.query_stride = block.prepared.stride;
    float threshold[kTileQueries], error[kTileQueries];
    in.threshold = threshold;
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t begin = queries * t / tiles, end = queries * (t + 1) / tiles;
      for (std::int64_t q = begin; q < end; ++q) {
        const auto one = static_cast<std::size_t>(q);
        error[q - begin] = error_of(block, q, distance);
        threshold[q - begin] = threshold_of(block.best[one], error[q - begin]);
      }
      in.queries = block.prepared.words.data() + begin * block.prepared.stride;
      if (type_ == Type::int8) in.query_scale = block.prepared.scale.data() + begin;
      tile(static_cast<int>(end - begin), in, out);
      for (std::int64_t q = begin; q < end; ++q) {
        std::uint64_t mask = out.masks[q - begin];
        if (mask == 0) continue;
        mask &= allowed(block.first + q, number);
        for (; mask != 0; mask &= mask - 1) {
          const int lane = std::countr_zero(mask);
          admit(block, q, out.scores[q - begin][lane], error[q - begin], number * kGroup + lane);
        }
      }
    }
  }

  // Few queries before rows in place: one row after another, so that memory is read as one stream.
  void scan_rows(QueryBlock& block, std::int64_t first, std::int64_t last) const {
    const int queries = static_cast<int>(block.queries.count);
    float scores[kFewQueries + 1];
    for (std::int64_t number = first; number < last; ++number) {
      if ((number - first) % kGroupsBetweenLooks == 0 && !wanted_()) return;
      if (nobody_wants(block, number)) continue;
      const Rows<const float> group = rows_of_group(number);
      for (std::int64_t lane = 0; lane < group.count; ++lane) {
        kernels_.row_dots(queries, block.queries.data, block.queries.stride, group.row(lane), dim_, scores);
        const Distance length{0, norm_of_squares(scores[queries], dim_)};
        for (std::int64_t q = 0; q < queries; ++q) {
          const float error = error_of(block, q, length);
          const Candidates& best = block.best[static_cast<std::size_t>(q)];
          if (scores[q] < threshold_of(best, error) || (allowed(block.first + q, number) >> lane & 1) == 0) continue;
          admit(block, q, scores[q], error, number * kGroup + lane);
        }
      }
    }
  }

  float error_of(const QueryBlock& block, std::int64_t q, Distance distance) const {
    if (request_.answer != Answer::exact) return 0;
    return error_bound(rounding_of(type_, dim_), block.prepared.distance[static_cast<std::size_t>(q)], distance);
  }

  float threshold_of(const Candidates& best, float error) const {
    const double floor = best.floor();
    if (request_.answer == Answer::exact) return threshold_below(static_cast<float>(floor), error);
    // Rows come in rising order: a score equal to the k-th has no chance any more.
    const float low = static_cast<float>(floor);
    return std::isinf(low) ? low : std::nextafter(low, std::numeric_limits<float>::infinity());
  }

  void admit(QueryBlock& block, std::int64_t q, float score, float error, std::int64_t row) const {
    Candidates& best = block.best[static_cast<std::size_t>(q)];
    if (request_.answer != Answer::exact) {
      if (!std::isnan(score) || std::isinf(best.floor())) best.insert(score, score, row);
      return;
    }
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    double low = static_cast<double>(score) - static_cast<double>(error);
    double high = static_cast<double>(score) + static_cast<double>(error);
    if (!std::isfinite(low) || !std::isfinite(high)) low = -kInfinity, high = kInfinity;
    best.insert(low, high, row);
    if (best.crowded()) resolve(best, block.queries.row(q));
  }

  void resolve(Candidates& best, const float* query) const {
    best.resolve([&](std::int64_t row) { return kernels_.dot(query, documents_.rows.row(row), dim_); },
                 [&](std::int64_t row) { __builtin_prefetch(documents_.rows.row(row)); });
  }

  const Documents& documents_;
  const Request& request_;
  const std::function<bool()>& wanted_;
  Kernels kernels_;
  std::int64_t count_, dim_;
  Type type_;
  std::int64_t kept_;
};

}  // namespace

void search_topk(Rows<const float> queries, const Documents& documents, const Request& request, float* scores,
                 std::int64_t* rows, const std::function<bool()>& wanted) {
  const Search search(documents, request, wanted);
  const std::int64_t found = std::min(request.k, search.count());
  if (found == 0 || queries.count == 0) return;
  const std::int64_t threads = request.threads;
  if (queries.count >= 2 * kTileQueries * threads || threads == 1) {  // many queries: each thread takes blocks of them
    const std::int64_t most = std::min(search.block_queries(), (queries.count + threads - 1) / threads);
    const std::int64_t blocks = (queries.count + most - 1) / most;
    parallel(blocks, request.threads, [&](std::int64_t number) {
      const std::int64_t first = queries.count * number / blocks, last = queries.count * (number + 1) / blocks;
      QueryBlock block = search.begin(queries, first, last - first);
      search.scan(block, 0, search.groups());
      search.finish(block, found, scores, rows);
    });
    return;
  }
  // Few queries: each thread takes a run of documents, and what has a chance in its run is ranked together.
  const std::int64_t runs = std::clamp<std::int64_t>(search.groups() / 4, 1, threads);
  std::vector<QueryBlock> blocks(static_cast<std::size_t>(runs));
  for (QueryBlock& block : blocks) block = search.begin(queries, 0, queries.count);
  parallel(runs, request.threads, [&](std::int64_t run) {
    search.scan(blocks[static_cast<std::size_t>(run)], search.groups() * run / runs,
                search.groups() * (run + 1) / runs);
  });
  QueryBlock& all = blocks.front();
  for (std::size_t q = 0; q < all.best.size(); ++q)
    for (std::size_t run = 1; run < blocks.size(); ++run) all.best[q].merge(blocks[run].best[q]);
  search.finish(all, found, scores, rows);
}

}  // namespace leafkit
