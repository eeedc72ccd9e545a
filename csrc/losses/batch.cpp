#include "losses/batch.h"

#include <cmath>
#include <utility>
#include <vector>

#include "losses/blocks.h"

namespace leafkit {
namespace {

constexpr std::int64_t kColumns = 512;  // scores of a row at once

}  // namespace

// The rows' softmax is formed in one pass over the documents: what was summed before shrinks when a larger score comes.
// A row's own document is left out of the sums and comes in at the end, so that nothing is lost where it has all the
// weight: with x the log of the others' part over its own, the loss is log(1 + e^x) and its own weight less one is
// -1 / (1 + e^-x).
double contrastive_loss(const Batch& batch, double temperature) {
  require(batch, 1);
  const BatchKernels& level = kernels(batch);
  const std::int64_t count = batch.student.count, dim = batch.student.dim, n = level.values;
  const std::int64_t all_rows = whole(count), all_dims = whole(dim), words = all_dims / n;
  const Room columns(all_rows * words), pairs(all_rows * words);
  const std::int64_t panels = all_rows / kPanel;
  in_parts(level, (panels + 15) / 16, batch.threads, [&](std::int64_t part) {
    const std::int64_t first = part * 16 * kPanel, rows = std::min(16 * kPanel, all_rows - first);
    Parts room(Parts::size(rows * words) + Parts::size(rows * words));
    Word *taken = room.words(rows * words), *paired = room.words(rows * words);
    level.take(batch.teacher, first, first + rows, all_dims, taken);
    level.columns(rows, words, taken, columns.words() + first * words);
    level.pairs(rows, words, taken, paired);  // 32 dims of all rows lie together: a part of each panel
    for (std::int64_t panel = 0; panel < all_dims / kPanel; ++panel)
      std::copy_n(paired + panel * (rows / n) * kPanel, rows / n * kPanel,
                  pairs.words() + panel * (all_rows / n) * kPanel + first / n * kPanel);
  });
  std::vector<double> losses(static_cast<std::size_t>(count));
  in_parts(level, (all_rows + kRows - 1) / kRows, batch.threads, [&](std::int64_t part) {
    const std::int64_t first = part * kRows, rows = std::min(kRows, all_rows - first);
    Parts room(Parts::size(rows * words) + Parts::size(rows * kColumns) + Parts::size(rows * kColumns / n) +
               Parts::size(rows * all_dims) + 4 * Parts::size(rows));
    Word* left = room.words(rows * words);
    float *scores = room.floats(rows * kColumns), *sums = room.floats(rows * all_dims);
    Word* weights = room.words(rows * kColumns / n);
    float *top = room.floats(rows), *sum = room.floats(rows), *own = room.floats(rows), *shrink = room.floats(rows);
    std::fill_n(top, rows, kNowhere);
    std::fill_n(sum, rows, 0.0f);
    std::fill_n(own, rows, 0.0f);
    std::fill_n(sums, rows * all_dims, 0.0f);
    level.take(batch.student, first, first + rows, all_dims, left);
    for (std::int64_t at = 0; at < all_rows; at += kColumns) {
      const std::int64_t width = std::min(kColumns, all_rows - at);
      multiply(level, rows, width, words, left, columns.words() + at * words, scores);
      const Tile tile{rows,       width, static_cast<float>(1 / temperature),
                      first - at, rows,  count - at < width ? count - at : width};
      level.weigh(tile, scores, {top, sum}, own, shrink, weights);
      level.shrink(rows, all_dims / kPanel, shrink, sums);
      for (std::int64_t panel = 0; panel < all_dims / kPanel; ++panel)
        level.add(rows, width / n, weights, width / n,
                  pairs.words() + panel * (all_rows / n) * kPanel + at / n * kPanel, sums + panel * rows * kPanel);
    }
    const double scale = 1 / (temperature * static_cast<double>(count));
    for (std::int64_t row = 0; row < std::min(rows, count - first); ++row) {
      const double others = std::log(static_cast<double>(sum[row])) + top[row] - own[row];
      losses[static_cast<std::size_t>(first + row)] =
          others > 0 ? others + std::log1p(std::exp(-others)) : std::log1p(std::exp(others));
      const auto own_factor = static_cast<float>(-scale / (1 + std::exp(-others)));
      const auto factor = static_cast<float>(scale / (sum[row] + std::exp(own[row] - static_cast<double>(top[row]))));
      const float* document = batch.teacher.row(first + row);
      float* out = batch.gradient + (first + row) * dim;
      for (std::int64_t i = 0; i < dim; ++i)
        out[i] = factor * sums[i / kPanel * rows * kPanel + row * kPanel + i % kPanel] + own_factor * document[i];
    }
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  require_finite_value(total);
  return total / static_cast<double>(count);
}

namespace {

// Blocks meet one another in rounds of which no two pairs share a block (everyone plays everyone): the sums of a block
// grow in one order, whatever the number of threads.
template <class Meet>
void in_rounds(const BatchKernels& level, std::int64_t blocks, int threads, const Meet& meet) {
  in_parts(level, blocks, threads, [&](std::int64_t block) { meet(block, block); });
  const std::int64_t players = blocks + blocks % 2;
  for (std::int64_t round = 0; round + 1 < players; ++round)
    in_parts(level, players / 2, threads, [&](std::int64_t pair) {
      const std::int64_t turns = players - 1;
      std::int64_t one = pair == 0 ? turns : (round + pair) % turns, other = (round + turns - pair) % turns;
      if (one > other) std::swap(one, other);
      if (other < blocks) meet(one, other);
    });
}

}  // namespace

// With L the log of the rows' sums, the slope of the loss in s_ij = s_ji is that of row i and of row j together:
// (e^(s - L_i) - e^(t - M_i) + e^(s - L_j) - e^(t - M_j)) / B / temperature, so that one product with the student's
// vectors gives the gradient, and a pair of blocks needs each score once a pass: the first finds L and M.
double listwise_kl_loss(const Batch& batch, double temperature) {
  require(batch, 2);
  const BatchKernels& level = kernels(batch);
  const std::int64_t count = batch.student.count, dim = batch.student.dim, n = level.values;
  const std::int64_t all_rows = whole(count), all_dims = whole(dim), words = all_dims / n;
  const std::int64_t blocks = (all_rows + kBlock - 1) / kBlock;
  const Rows<const float> sides[] = {batch.student, batch.teacher};
  const Room taken[] = {Room(all_rows * words), Room(all_rows * words)}, statistics(4 * all_rows);
  float *top[2], *sum[2];
  for (int side = 0; side < 2; ++side) {
    top[side] = statistics.floats() + 2 * side * all_rows;
    sum[side] = top[side] + all_rows;
    std::fill_n(top[side], all_rows, kNowhere);
    std::fill_n(sum[side], all_rows, 0.0f);
  }
  const auto size = [&](std::int64_t block) { return std::min(kBlock, all_rows - block * kBlock); };
  in_parts(level, blocks, batch.threads, [&](std::int64_t block) {
    for (int side = 0; side < 2; ++side)
      level.take(sides[side], block * kBlock, block * kBlock + size(block), all_dims,
                 taken[side].words() + block * kBlock * words);
  });
  const auto tile_of = [&](std::int64_t one, std::int64_t other) {
    return Tile{size(one),
                size(other),
                static_cast<float>(1 / temperature),
                one == other ? 0 : -kBlock,
                std::min(size(one), count - one * kBlock),
                std::min(size(other), count - other * kBlock)};
  };
  in_rounds(level, blocks, batch.threads, [&](std::int64_t one, std::int64_t other) {
    Parts room(Parts::size(kBlock * words) + Parts::size(kBlock * kBlock));
    Word* columns = room.words(kBlock * words);
    float* scores = room.floats(kBlock * kBlock);
    for (int side = 0; side < 2; ++side) {
      const Word* rows = taken[side].words();
      level.columns(size(other), words, rows + other * kBlock * words, columns);
      multiply(level, size(one), size(other), words, rows + one * kBlock * words, columns, scores);
      const Sums of_one{top[side] + one * kBlock, sum[side] + one * kBlock};
      const Sums of_other{top[side] + other * kBlock, sum[side] + other * kBlock};
      level.observe(tile_of(one, other), scores, of_one, one == other ? Sums{nullptr, nullptr} : of_other);
    }
  });
  for (int side = 0; side < 2; ++side)
    for (std::int64_t row = 0; row < all_rows; ++row)
      top[side][row] = row < count ? top[side][row] + std::log(sum[side][row]) : 0.0f;

  // Sums of the gradient lie in panels, block by block, in the gradient's own memory where that has room for padding.
  const bool fits = count % kPanel == 0 && dim % kPanel == 0;
  const Room padded(fits ? 0 : all_rows * all_dims);
  float* sums = fits ? batch.gradient : padded.floats();
  std::fill_n(sums, all_rows * all_dims, 0.0f);
  std::vector<double> losses(static_cast<std::size_t>(blocks * blocks));
  in_rounds(level, blocks, batch.threads, [&](std::int64_t one, std::int64_t other) {
    Parts room(2 * Parts::size(kBlock * words) + 2 * Parts::size(kBlock * kBlock) +
               3 * Parts::size(kBlock * kBlock / n));
    Word *columns = room.words(kBlock * words), *pairs = room.words(kBlock * words);
    float* scores[] = {room.floats(kBlock * kBlock), room.floats(kBlock * kBlock)};
    Word *slope = room.words(kBlock * kBlock / n), *slope_pairs = room.words(kBlock * kBlock / n),
         *slope_turned = room.words(kBlock * kBlock / n);
    for (int side = 0; side < 2; ++side) {
      const Word* rows = taken[side].words();
      level.columns(size(other), words, rows + other * kBlock * words, columns);
      multiply(level, size(one), size(other), words, rows + one * kBlock * words, columns, scores[side]);
    }
    losses[static_cast<std::size_t>(one * blocks + other)] =
        level.differ(tile_of(one, other), scores[0], scores[1], {top[0] + one * kBlock, top[1] + one * kBlock},
                     {top[0] + other * kBlock, top[1] + other * kBlock}, slope, slope_pairs);
    const auto add = [&](std::int64_t to, std::int64_t from, const Word* left) {
      level.pairs(size(from), words, taken[0].words() + from * kBlock * words, pairs);
      for (std::int64_t panel = 0; panel < all_dims / kPanel; ++panel)
        level.add(size(to), size(from) / n, left, size(from) / n, pairs + panel * size(from) / n * kPanel,
                  sums + to * kBlock * all_dims + panel * size(to) * kPanel);
    };
    add(one, other, slope);
    if (one == other) return;
    level.turn(size(one) / n, size(other), slope_pairs, slope_turned);
    add(other, one, slope_turned);
  });
  const auto scale = static_cast<float>(1 / (temperature * static_cast<double>(count)));
  parallel(blocks, batch.threads, [&](std::int64_t block) {
    const std::int64_t first = block * kBlock, rows = std::min(size(block), count - first);
    const float* from = sums + first * all_dims;
    if (fits) {
      float* aside = Parts(Parts::size(size(block) * all_dims)).floats(size(block) * all_dims);
      std::copy_n(from, size(block) * all_dims, aside);
      from = aside;
    }
    lay_out(from, rows, size(block), dim, scale, batch.gradient + first * dim);
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  require_finite_value(total);
  return total / static_cast<double>(count);
}

}  // namespace leafkit
