#include "search/search.h"

#include <algorithm>
#include <vector>

#include "base/pool.h"
#include "search/levels.h"
#include "search/topk.h"

namespace leafkit {
namespace {

ScoreBlock kernel(Level level) {
#ifdef LEAFKIT_X86
  if (level == Level::avx512) return kScoreAvx512;
  if (level == Level::avx2) return kScoreAvx2;
#endif
  (void)level;
  return kScoreScalar;
}

constexpr std::int64_t kQueryBlock = 48;         // with the documents' block and the scores it stays in L2
constexpr std::int64_t kBlockBytes = 128 << 10;  // of documents: a quarter of the smallest L2 in use (512 KiB)

std::int64_t block_rows(std::int64_t dim) {
  return std::clamp<std::int64_t>(kBlockBytes / (std::max<std::int64_t>(dim, 1) * 4) / 4 * 4, 16, 512);
}

Rows<const float> part(Rows<const float> rows, std::int64_t first, std::int64_t count) {
  return {rows.row(first), count, rows.dim, rows.stride};
}

// Scans documents [first, last) for a block of queries into their heaps, in rising row order.
void scan(Rows<const float> queries, Rows<const float> documents, std::int64_t first, std::int64_t last,
          ScoreBlock score, TopK* best, const std::function<bool()>& wanted) {
  const std::int64_t step = block_rows(documents.dim);
  std::vector<float> scores(static_cast<std::size_t>(queries.count * step));
  for (std::int64_t row = first; row < last && wanted(); row += step) {
    const Rows<const float> block = part(documents, row, std::min(step, last - row));
    score(queries, block, scores.data());
    for (std::int64_t q = 0; q < queries.count; ++q) {
      const float* of_query = scores.data() + q * block.count;
      for (std::int64_t d = 0; d < block.count; ++d)
        if (best[q].admits(of_query[d])) best[q].insert(of_query[d], row + d);
    }
  }
}

void write(const std::vector<Scored>& found, float* scores, std::int64_t* rows) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    scores[i] = found[i].score;
    rows[i] = found[i].row;
  }
}

}  // namespace

void search_topk(Rows<const float> queries, Rows<const float> documents, std::int64_t k, int threads, Level level,
                 float* scores, std::int64_t* rows, const std::function<bool()>& wanted) {
  const std::int64_t found = std::min(k, documents.count);
  if (found == 0 || queries.count == 0) return;
  const ScoreBlock score = kernel(level);
  const std::int64_t query_block = std::clamp<std::int64_t>((queries.count + threads - 1) / threads, 1, kQueryBlock);
  const std::int64_t blocks = (queries.count + query_block - 1) / query_block;
  if (queries.count >= 2 * threads || threads == 1) {  // many queries: each thread takes blocks of them
    parallel(blocks, threads, [&](std::int64_t number) {
      const std::int64_t first = number * query_block;
      const std::int64_t count = std::min(query_block, queries.count - first);
      std::vector<TopK> best(static_cast<std::size_t>(count), TopK(found));
      scan(part(queries, first, count), documents, 0, documents.count, score, best.data(), wanted);
      for (std::int64_t q = 0; q < count; ++q)
        write(best[static_cast<std::size_t>(q)].finish(), scores + (first + q) * found, rows + (first + q) * found);
    });
    return;
  }
  // Few queries: each thread takes a run of documents; the best of all runs are ranked together, so that the answer
  // is that of one thread.
  const std::int64_t runs = std::min<std::int64_t>(threads, (documents.count + 1023) / 1024);
  std::vector<std::vector<TopK>> best(static_cast<std::size_t>(runs),
                                      std::vector<TopK>(static_cast<std::size_t>(queries.count), TopK(found)));
  parallel(runs, threads, [&](std::int64_t run) {
    const std::int64_t first = documents.count * run / runs, last = documents.count * (run + 1) / runs;
    scan(queries, documents, first, last, score, best[static_cast<std::size_t>(run)].data(), wanted);
  });
  for (std::int64_t q = 0; q < queries.count; ++q) {
    std::vector<Scored> all;
    for (std::vector<TopK>& of_run : best) {
      const std::vector<Scored>& kept = of_run[static_cast<std::size_t>(q)].finish();
      all.insert(all.end(), kept.begin(), kept.end());
    }
    std::sort(all.begin(), all.end(), ranks_before);
    all.resize(static_cast<std::size_t>(found));
    write(all, scores + q * found, rows + q * found);
  }
}

}  // namespace leafkit
