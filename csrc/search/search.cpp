#include "search/search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/plain.h"
#include "base/pool.h"
#include "search/bounds.h"
#include "search/candidates.h"
#include "search/exact.h"
#include "search/groups.h"
#include "search/kernels.h"

namespace leafkit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kMostQueries = 1024;     // of a block: prepared, they stay in L2 or close to it
constexpr std::int64_t kQueryBytes = 32 << 20;  // of a block's candidates, roughly
constexpr std::int64_t kLook = 16;              // groups between looks at `wanted`
constexpr std::int64_t kWindow = 64;            // groups between looks at how many documents passed
constexpr std::int64_t kManyQueries = 24;       // a thread, from where on queries are divided and not documents
constexpr std::int64_t kSparse = 16;            // where one row in so many is allowed, allowed rows are listed

// One block of queries on its way through documents.
struct QueryBlock {
  Rows<const float> queries;
  std::int64_t first;   // number of the first query in the call
  std::size_t rung;     // which form it reads
  std::int64_t passed;  // documents that passed a threshold, of all queries together
  Prepared prepared;
  std::vector<Candidates> best;
  std::vector<ErrorOf> error_of;
  // One a query: no document that scores less can be among the best; what the scan may be off in this group; both.
  std::vector<float> floor, error, threshold;
};

// A thread's time with tiles.
class Entered {
 public:
  explicit Entered(const Kernels& kernels) : kernels_(kernels) {}
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  ~Entered() { kernels_.leave(); }

 private:
  const Kernels& kernels_;
};

class Search {
 public:
  Search(const Documents& documents, const Request& request, const Listing& listing,
         const std::function<bool()>& wanted)
      : documents_(documents),
        request_(request),
        listing_(listing),
        wanted_(wanted),
        kernels_(kernels_of(request.level)),
        dim_(documents.dim()),
        exact_(request.answer == Answer::exact),
        kept_(request.answer == Answer::rescored ? request.k * request.overfetch : request.k) {
    kept_ = std::clamp<std::int64_t>(kept_, 1, std::max<std::int64_t>(listing.count(), 1));
    if (documents.packed != nullptr) forms_.push_back({documents.packed->type, true});
    if (exact_ && kernels_.in_place != Type::float32) forms_.push_back({kernels_.in_place, false});
    if (exact_ || forms_.empty()) forms_.push_back({Type::float32, false});
    // Rows elsewhere in memory are read whole; reading all codes beside them would be more.
    if (exact_ && listing.listed() && forms_.front().held) forms_.erase(forms_.begin());
  }

  std::int64_t block_queries() const {
    const std::int64_t bytes = (10 + kept_) << 10;  // measured: lists are longest while thresholds are rising
    return std::clamp<std::int64_t>(kQueryBytes / bytes, 6, kMostQueries);
  }

  QueryBlock begin(Rows<const float> queries, std::int64_t first, std::int64_t number) const {
    QueryBlock block{{queries.row(first), number, queries.dim, queries.stride}, first, 0, 0, {}, {}, {}, {}, {}, {}};
    const auto count = static_cast<std::size_t>(number);
    block.best.assign(count, Candidates(kept_, exact_));
    block.floor.assign(count, -kInfinity);
    block.error.assign(count, 0);
    block.threshold.assign(count, -kInfinity);
    return block;
  }

  std::int64_t groups() const { return listing_.groups(); }

  // Passes groups [first, last) of documents before a block of queries, in rising row order. The first form is left
  // for the next where it rules out too little.
  void scan(QueryBlock& block, std::int64_t first, std::int64_t last) const {
    for (block.rung = 0; first < last; ++block.rung) {
      const Form form = forms_[block.rung];
      if (!form.held && block.queries.count == 1) return scan_rows(block, first, last);
      const auto scale = form.held ? documents_.packed->dim_scale.data() : nullptr;
      block.prepared = prepare(block.queries, form.type, scale, kernels_);
      block.error_of.clear();
      for (const Distance query : block.prepared.distance)
        block.error_of.push_back(error_of(rounding_of(form.type, dim_), query));
      first = scan_groups(block, form, first, last);
    }
  }

  // Ends a block: writes the best of every query.
  void finish(QueryBlock& block, std::int64_t found, float* scores, std::int64_t* rows) const {
    for (std::int64_t q = 0; q < block.queries.count && wanted_(); ++q) {
      Candidates& best = block.best[static_cast<std::size_t>(q)];
      const float* query = block.queries.row(q);
      if (exact_) resolve(best, query);
      std::vector<Scored>& kept = best.ranked();
      if (request_.answer == Answer::rescored) score_again(query, kept);
      const std::int64_t at = (block.first + q) * found;
      for (std::int64_t i = 0; i < found; ++i) {
        const bool there = i < static_cast<std::int64_t>(kept.size());
        scores[at + i] = there ? static_cast<float>(kept[static_cast<std::size_t>(i)].score) : -kInfinity;
        rows[at + i] = there ? kept[static_cast<std::size_t>(i)].row : -1;
      }
    }
  }

 private:
  // Rows of a group that a query may find. Listed rows are allowed.
  std::uint64_t allowed(std::int64_t query, std::int64_t number) const {
    const int count = listing_.rows_of_group(number);
    const std::uint64_t there = count == kGroup ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    if (request_.allowed.words == nullptr || listing_.listed()) return there;
    return there & request_.allowed.words[query * request_.allowed.stride + number];
  }

  bool nobody_wants(const QueryBlock& block, std::int64_t number) const {
    if (request_.allowed.words == nullptr || listing_.listed()) return false;
    if (request_.allowed.stride == 0) return allowed(0, number) == 0;
    for (std::int64_t q = 0; q < block.queries.count; ++q)
      if (allowed(block.first + q, number) != 0) return false;
    return true;
  }

  // Gives the group at which this form was left, or `last`.
  std::int64_t scan_groups(QueryBlock& block, Form form, std::int64_t first, std::int64_t last) const {
    GroupReader reader(documents_, listing_, form, kernels_);
    const Entered entered(kernels_);
    const bool may_leave = block.rung + 1 < forms_.size();
    TileOut out;
    block.passed = 0;
    for (std::int64_t number = first; number < last; ++number) {
      if ((number - first) % kLook == 0) {
        if (!wanted_()) return last;
        kernels_.enter();  // Python may have run
      }
      if (may_leave && number > first && (number - first) % kLook == 0) {
        if (too_many(block, number - first)) return number;
        if ((number - first) % kWindow == 0) block.passed = 0;
      }
      if (nobody_wants(block, number)) continue;
      const Group group = reader.read(number);
      for (std::size_t q = 0; q < block.floor.size(); ++q) {
        block.error[q] = exact_ ? block.error_of[q](group.distance) : 0;
        block.threshold[q] = exact_ ? threshold_below(block.floor[q], block.error[q]) : block.floor[q];
      }
      pass(block, form.type, reader.steps(), number, group, out);
    }
    return last;
  }

  // Whether so many documents of this window passed that narrow arithmetic costs more than it saves: three in four
  // while thresholds are rising, then half, later one in 8, beside those that have to pass, since of `seen` documents
  // each is among the best k with probability k / seen.
  bool too_many(const QueryBlock& block, std::int64_t groups) const {
    const bool rising = groups < 2 * kWindow;
    const auto look = static_cast<double>((rising ? std::min(groups, kWindow) : kWindow) * kGroup);
    const auto seen = static_cast<double>(groups * kGroup);
    const double share = rising ? 0.75 : groups < 8 * kWindow ? 0.5 : 0.125;
    const double expected = look * (share + 4 * static_cast<double>(kept_) / seen);
    return static_cast<double>(block.passed) > expected * static_cast<double>(block.queries.count);
  }

  // All queries of a block before one group, in tiles of nearly equal size: a last tile of one would be slow.
  void pass(QueryBlock& block, Type type, std::int64_t steps, std::int64_t number, const Group& group,
            TileOut& out) const {
    const std::int64_t queries = block.queries.count, most = kernels_.tile_queries[static_cast<int>(type)];
    const std::int64_t tiles = (queries + most - 1) / most;
    const Tile tile = kernels_.tile[static_cast<int>(type)];
    TileIn in{nullptr, block.prepared.stride, group.words, steps, dim_, nullptr, group.scale, group.start, nullptr, {}};
    const std::int64_t parts = kGroup * lane_bytes(type) / 64;  // cache lines a step
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t begin = queries * t / tiles, end = queries * (t + 1) / tiles;
      in.queries = block.prepared.words.data() + begin * block.prepared.stride;
      in.threshold = block.threshold.data() + begin;
      in.query_scale = block.prepared.scale.data() + begin;
      in.ahead = t < parts ? group.next + t * steps * 64 : group.words;
      tile(static_cast<int>(end - begin), in, out);
      for (std::int64_t q = begin; q < end; ++q)
        if (out.masks[q - begin] != 0)
          admit(block, q, number, out.masks[q - begin] & allowed(block.first + q, number), out.scores[q - begin]);
    }
  }

  // One query before rows in place: one row after another, as they lie in memory.
  void scan_rows(QueryBlock& block, std::int64_t first, std::int64_t last) const {
    const float* query = block.queries.row(0);
    block.prepared = prepare(block.queries, Type::float32, nullptr, kernels_);
    const ErrorOf error_of_query = error_of(rounding_of(Type::float32, dim_), block.prepared.distance[0]);
    float scores[kGroup];
    for (std::int64_t number = first; number < last; ++number) {
      if ((number - first) % kLook == 0 && !wanted_()) return;
      const std::uint64_t wanted = allowed(block.first, number);
      for (int lane = 0; wanted >> lane != 0; ++lane) {
        const float* row = documents_.rows.row(listing_.row(number * kGroup + lane));
        float squares;
        scores[lane] = kernels_.row_dot(query, row, dim_, &squares);
        block.error[0] = exact_ ? error_of_query({0, length_of_squares(squares, dim_)}) : 0;
        const float threshold = exact_ ? threshold_below(block.floor[0], block.error[0]) : block.floor[0];
        if (!(scores[lane] < threshold)) admit(block, 0, number, wanted & std::uint64_t{1} << lane, scores);
        if (lane == kGroup - 1) break;
      }
    }
  }

  // Takes in the documents of a group whose bits are set.
  void admit(QueryBlock& block, std::int64_t q, std::int64_t number, std::uint64_t mask, const float* scores) const {
    const auto one = static_cast<std::size_t>(q);
    Candidates& best = block.best[one];
    block.passed += std::popcount(mask);
    for (; mask != 0; mask &= mask - 1) {
      const int lane = std::countr_zero(mask);
      if (!exact_ && std::isnan(scores[lane]) && best.floor() > -kInfinity) continue;
      best.insert(scores[lane], block.error[one], listing_.row(number * kGroup + lane));
      if (best.crowded()) resolve(best, block.queries.row(q));
    }
    // Without bounds a score equal to the k-th has no chance any more: rows come in rising order.
    const float floor = best.floor();
    block.floor[one] = exact_ || std::isinf(floor) ? floor : std::nextafter(floor, kInfinity);
  }

  void fetch(const float* row) const {
    for (std::int64_t i = 0; i < dim_; i += 16) __builtin_prefetch(row + i, 0, 2);
  }

  void resolve(Candidates& best, const float* query) const {
    best.resolve([&](std::int64_t row) { return exact_dot(kernels_, query, documents_.rows.row(row), dim_); },
                 [&](std::int64_t row) { fetch(documents_.rows.row(row)); });
  }

  void score_again(const float* query, std::vector<Scored>& kept) const {
    constexpr std::size_t kAhead = 3;
    std::vector<float> wide(documents_.rows.data == nullptr ? static_cast<std::size_t>(dim_) : 0);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const float* row = documents_.rows.row(kept[i].row);
      if (documents_.rows.data != nullptr) {
        if (i + kAhead < kept.size()) fetch(documents_.rows.row(kept[i + kAhead].row));
      } else {
        documents_.halves.widen(kept[i].row, wide.data());
        row = wide.data();
      }
      kept[i].score = exact_dot(kernels_, query, row, dim_);
    }
    std::sort(kept.begin(), kept.end(), RanksBefore());
  }

  const Documents& documents_;
  const Request& request_;
  const Listing& listing_;
  const std::function<bool()>& wanted_;
  Kernels kernels_;
  std::int64_t dim_;
  bool exact_;
  std::int64_t kept_;
  std::vector<Form> forms_;  // tried in this order
};

// One listing before many queries.
void search_listing(Rows<const float> queries, const Documents& documents, const Request& request,
                    const Listing& listing, std::int64_t found, float* scores, std::int64_t* rows,
                    const std::function<bool()>& wanted) {
  const Search search(documents, request, listing, wanted);
  const std::int64_t threads = request.threads;
  if (queries.count >= kManyQueries * threads || threads == 1) {  // many queries: each thread takes blocks of them
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
  const std::int64_t runs = std::clamp<std::int64_t>(search.groups() / 4, 1, threads), most = search.block_queries();
  for (std::int64_t first = 0; first < queries.count; first += most) {
    std::vector<QueryBlock> blocks(static_cast<std::size_t>(runs));
    for (QueryBlock& block : blocks) block = search.begin(queries, first, std::min(most, queries.count - first));
    parallel(runs, request.threads, [&](std::int64_t run) {
      search.scan(blocks[static_cast<std::size_t>(run)], search.groups() * run / runs,
                  search.groups() * (run + 1) / runs);
    });
    QueryBlock& all = blocks.front();
    for (std::size_t q = 0; q < all.best.size(); ++q)
      for (std::size_t run = 1; run < blocks.size(); ++run) all.best[q].merge(blocks[run].best[q]);
    search.finish(all, found, scores, rows);
  }
}

std::int64_t bits_set(const std::uint64_t* words, std::int64_t count) {
  std::int64_t set = 0;
  for (std::int64_t i = 0; i < count; ++i) set += std::popcount(words[i]);
  return set;
}

Listing listing_of(const std::uint64_t* words, std::int64_t count) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < count; ++i)
    for (std::uint64_t mask = words[i]; mask != 0; mask &= mask - 1)
      rows.push_back(i * kGroup + std::countr_zero(mask));
  return Listing(std::move(rows));
}

}  // namespace

void search_topk(Rows<const float> queries, const Documents& documents, const Request& request, float* scores,
                 std::int64_t* rows, const std::function<bool()>& wanted) {
  const PlainArithmetic plain;
  const std::int64_t count = documents.count(), found = std::min(request.k, count);
  if (found == 0 || queries.count == 0) return;
  const Allowed& allowed = request.allowed;
  const std::int64_t words = (count + kGroup - 1) / kGroup, filters = allowed.stride == 0 ? 1 : queries.count;
  if (allowed.words != nullptr && bits_set(allowed.words, words * filters) * kSparse <= count * filters) {
    if (allowed.stride == 0)
      return search_listing(queries, documents, request, listing_of(allowed.words, words), found, scores, rows, wanted);
    Request alone = request;
    alone.threads = 1;
    return parallel(queries.count, request.threads, [&](std::int64_t q) {
      search_listing({queries.row(q), 1, queries.dim, queries.stride}, documents, alone,
                     listing_of(allowed.words + q * allowed.stride, words), found, scores + q * found, rows + q * found,
                     wanted);
    });
  }
  search_listing(queries, documents, request, Listing(count), found, scores, rows, wanted);
}

}  // namespace leafkit
