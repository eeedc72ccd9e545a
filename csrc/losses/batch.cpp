#include "losses/batch.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/plain.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "losses/forms.h"

namespace leafkit {
namespace {

using Word = std::uint32_t;

constexpr std::int64_t kRows = 128;     // of the left side at once: with a panel of the right side they fill a cache
constexpr std::int64_t kColumns = 512;  // scores of a row at once
constexpr std::int64_t kBlock = 256;    // texts of a block, where blocks meet blocks
constexpr std::int64_t kChunk = 256;    // texts that the matrices over dims are summed over at once

const BatchKernels& kernels(const Batch& batch) {
#ifdef LEAFKIT_X86
  if (batch.level == Level::amx && !batch.exact) return kBatchAmx;
  if (batch.level >= Level::avx512)
    return !batch.exact && __builtin_cpu_supports("avx512bf16") ? kBatchNarrow : kBatchAvx512;
  if (batch.level == Level::avx2) return kBatchAvx2;
#endif
  (void)batch;
  return kBatchScalar;
}

std::int64_t whole(std::int64_t count) { return (count + kPanel - 1) / kPanel * kPanel; }

// Memory for words or floats that lives as long as a call.
class Room {
 public:
  explicit Room(std::int64_t words) : bytes_(aligned_bytes(static_cast<std::size_t>(words) * sizeof(Word))) {}
  Word* words() const { return reinterpret_cast<Word*>(bytes_.get()); }
  float* floats() const { return reinterpret_cast<float*>(bytes_.get()); }

 private:
  Bytes bytes_;
};

// Hands out parts of a thread's scratch, whole cache lines a little apart (see encoder/attention.h).
class Parts {
 public:
  explicit Parts(std::int64_t words) : next_(scratch(words)) {}
  Word* words(std::int64_t count) {
    Word* out = next_;
    next_ += size(count);
    return out;
  }
  float* floats(std::int64_t count) { return reinterpret_cast<float*>(words(count)); }
  static std::int64_t size(std::int64_t count) { return (count + 15) / 16 * 16 + 48; }

 private:
  Word* next_;
};

// One thread's work on one part, with the level's registers set up for it.
template <class Work>
void in_parts(const BatchKernels& level, std::int64_t parts, int threads, const Work& work) {
  parallel(parts, threads, [&](std::int64_t part) {
    const PlainArithmetic plain;
    level.begin();
    work(part);
    level.end();
  });
}

std::string shape(Rows<const float> x) { return "(" + std::to_string(x.count) + ", " + std::to_string(x.dim) + ")"; }

void require_finite(Rows<const float> x, const char* name, int threads) {
  std::vector<char> bad(static_cast<std::size_t>(x.count));
  parallel((x.count + kBlock - 1) / kBlock, threads, [&](std::int64_t part) {
    const std::int64_t last = std::min(x.count, (part + 1) * kBlock);
    for (std::int64_t row = part * kBlock; row < last; ++row) {
      float none[8] = {};  // 0 times what is not finite is NaN
      const float* at = x.row(row);
      std::int64_t i = 0;
      for (; i + 8 <= x.dim; i += 8)
        for (int lane = 0; lane < 8; ++lane) none[lane] += 0.0f * at[i + lane];
      for (; i < x.dim; ++i) none[0] += 0.0f * at[i];
      float all_of_them = 0;
      for (const float lane : none) all_of_them += lane;
      bad[static_cast<std::size_t>(row)] = all_of_them != 0.0f || std::isnan(all_of_them);
    }
  });
  const auto found = std::find(bad.begin(), bad.end(), 1);
  if (found != bad.end())
    throw std::invalid_argument(std::string(name) + " row " + std::to_string(found - bad.begin()) + " of " +
                                std::to_string(x.count) + " holds a value that is not finite");
}

void require(const Batch& batch, std::int64_t at_least) {
  const auto &s = batch.student, &t = batch.teacher;
  if (s.count != t.count || s.dim != t.dim)
    throw std::invalid_argument("student has shape " + shape(s) + ", teacher has shape " + shape(t) +
                                ": expected one row each, of one width");
  if (s.count < at_least || s.dim < 1)
    throw std::invalid_argument("student has shape " + shape(s) + ": expected at least " + std::to_string(at_least) +
                                " rows of at least 1 dim");
  require_finite(s, "student", batch.threads);
  require_finite(t, "teacher", batch.threads);
}

void require_finite_value(double value) {
  if (!std::isfinite(value))
    throw std::invalid_argument("the loss is not finite: products of these vectors are beyond float32");
}

// A tile's scores of `rows` left rows against `columns` rows in columns form.
void multiply(const BatchKernels& level, std::int64_t rows, std::int64_t columns, std::int64_t words, const Word* left,
              const Word* right, float* out) {
  for (std::int64_t column = 0; column < columns; column += kPanel)
    level.multiply(rows, words, left, words, right + column * words, out + column * rows);
}

// Panels of `rows` rows of floats, times a factor, to rows that lie `dim` apart.
void lay_out(const float* panels, std::int64_t rows, std::int64_t from_rows, std::int64_t dim, float factor,
             float* out) {
  for (std::int64_t first = 0; first < dim; first += kPanel) {
    const std::int64_t width = std::min(kPanel, dim - first);
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t i = 0; i < width; ++i)
        out[row * dim + first + i] = factor * panels[first * from_rows + row * kPanel + i];
  }
}

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

namespace {

// e = s - t, exact where they are near. s s' - t t' = e s' + t e' loses nothing to cancellation, in whatever precision
// its products are formed.
double relational_of_pairs(const Batch& batch, const BatchKernels& level, const float* differences);
double relational_of_dims(const Batch& batch, const BatchKernels& level, const float* differences);

}  // namespace

double relational_loss(const Batch& batch) {
  require(batch, 1);
  const std::int64_t count = batch.student.count, dim = batch.student.dim;
  float* differences = batch.gradient;  // they are read before their rows of the gradient are written
  parallel((count + kBlock - 1) / kBlock, batch.threads, [&](std::int64_t block) {
    for (std::int64_t row = block * kBlock; row < std::min(count, (block + 1) * kBlock); ++row)
      for (std::int64_t i = 0; i < dim; ++i)
        differences[row * dim + i] = batch.student.row(row)[i] - batch.teacher.row(row)[i];
  });
  const BatchKernels& level = kernels(batch);
  const double value =
      count <= dim ? relational_of_pairs(batch, level, differences) : relational_of_dims(batch, level, differences);
  require_finite_value(value);
  return value;
}

namespace {

// M = e s' + t e' in blocks of rows; the gradient is 4 M s / B^2.
double relational_of_pairs(const Batch& batch, const BatchKernels& level, const float* differences) {
  const std::int64_t count = batch.student.count, dim = batch.student.dim, n = level.values;
  const std::int64_t all_rows = whole(count), all_dims = whole(dim), words = all_dims / n;
  const Rows<const float> e{differences, count, dim, dim};
  const Room left_e(all_rows * words), columns_e(all_rows * words), left_s(all_rows * words),
      columns_s(all_rows * words), pairs_s(all_rows * words);
  in_parts(level, 1, 1, [&](std::int64_t) {  // a batch of fewer rows than dims is small
    level.take(e, 0, all_rows, all_dims, left_e.words());
    level.columns(all_rows, words, left_e.words(), columns_e.words());
    level.take(batch.student, 0, all_rows, all_dims, left_s.words());
    level.columns(all_rows, words, left_s.words(), columns_s.words());
    level.pairs(all_rows, words, left_s.words(), pairs_s.words());
  });
  const double pairs_of_texts = static_cast<double>(count) * static_cast<double>(count);
  const std::int64_t parts = (all_rows + kRows - 1) / kRows;
  std::vector<double> squares(static_cast<std::size_t>(parts));
  in_parts(level, parts, batch.threads, [&](std::int64_t part) {
    const std::int64_t first = part * kRows, rows = std::min(kRows, all_rows - first);
    Parts room(Parts::size(rows * words) + Parts::size(rows * all_rows) + Parts::size(rows * all_rows / n) +
               Parts::size(rows * all_dims) + Parts::size(rows * all_rows));
    Word* left_t = room.words(rows * words);
    float *m = room.floats(rows * all_rows), *m_rows = room.floats(rows * all_rows);
    Word* m_words = room.words(rows * all_rows / n);
    float* sums = room.floats(rows * all_dims);
    level.take(batch.teacher, first, first + rows, all_dims, left_t);
    multiply(level, rows, all_rows, words, left_e.words() + first * words, columns_s.words(), m);
    for (std::int64_t column = 0; column < all_rows; column += kPanel)
      level.add(rows, words, left_t, words, columns_e.words() + column * words, m + column * rows);
    double square = 0;
    lay_out(m, rows, rows, all_rows, 1.0f, m_rows);
    for (std::int64_t i = 0; i < rows * all_rows; ++i) square += static_cast<double>(m_rows[i]) * m_rows[i];
    squares[static_cast<std::size_t>(part)] = square;
    level.take({m_rows, rows, all_rows, all_rows}, 0, rows, all_rows, m_words);
    for (std::int64_t panel = 0; panel < all_dims / kPanel; ++panel)
      level.multiply(rows, all_rows / n, m_words, all_rows / n, pairs_s.words() + panel * (all_rows / n) * kPanel,
                     sums + panel * rows * kPanel);
    lay_out(sums, std::min(rows, count - first), rows, dim, static_cast<float>(4 / pairs_of_texts),
            batch.gradient + first * dim);
  });
  double total = 0;
  for (const double square : squares) total += square;
  return total / pairs_of_texts;
}

// Through the matrices over dims S = s's, T = t't, E = e'e and X = e's: |e s' + t e'|^2 = <E, S> + 2 tr((X - E) X) +
// <E, T>, and the gradient is 4 (e S + t X) / B^2.
double relational_of_dims(const Batch& batch, const BatchKernels& level, const float* differences) {
  const std::int64_t count = batch.student.count, dim = batch.student.dim, n = level.values;
  const std::int64_t all_dims = whole(dim), panels = all_dims / kPanel, square = all_dims * all_dims;
  const Rows<const float> sides[] = {batch.student, batch.teacher, {differences, count, dim, dim}};
  enum { kStudent, kTeacher, kDifference };
  struct Product {
    int left, right;
  };
  constexpr Product kProducts[] = {{0, 0}, {1, 1}, {2, 2}, {2, 0}};
  std::optional<Room> sums(4 * square);
  std::fill_n(sums->floats(), 4 * square, 0.0f);
  {
    const std::int64_t size = kChunk * all_dims / n;
    const Room rows(3 * size), right(3 * size), left(3 * size);
    for (std::int64_t first = 0; first < count; first += kChunk) {
      const std::int64_t chunk = whole(std::min(kChunk, count - first));
      in_parts(level, 3, batch.threads, [&](std::int64_t side) {
        Word *taken = rows.words() + side * size, *paired = right.words() + side * size;
        level.take(sides[side], first, first + chunk, all_dims, taken);
        level.pairs(chunk, all_dims / n, taken, paired);
        for (std::int64_t panel = 0; panel < panels; ++panel)  // (rows / n, 32) of 32 dims become (32, rows / n)
          level.turn(chunk / n, kPanel, paired + panel * (chunk / n) * kPanel,
                     left.words() + side * size + panel * kPanel * (chunk / n));
      });
      in_parts(level, panels, batch.threads, [&](std::int64_t task) {
        const std::int64_t panel = panels - 1 - task;  // the long ones first
        for (int which = 0; which < 4; ++which) {      // the first three are symmetric: a half of each will do
          const std::int64_t height = which < 3 ? (panel + 1) * kPanel : all_dims;
          level.add(height, chunk / n, left.words() + kProducts[which].left * size, chunk / n,
                    right.words() + kProducts[which].right * size + panel * (chunk / n) * kPanel,
                    sums->floats() + which * square + panel * all_dims * kPanel);
        }
      });
    }
  }
  const Room flat(2 * square);  // S and X, their rows one after another
  const auto at = [&](int which, std::int64_t row, std::int64_t column) {
    return sums->floats()[which * square + column / kPanel * all_dims * kPanel + row * kPanel + column % kPanel];
  };
  std::vector<double> parts(static_cast<std::size_t>(all_dims));
  parallel(all_dims, batch.threads, [&](std::int64_t row) {
    double total = 0;
    for (std::int64_t column = 0; column < all_dims; ++column) {
      const std::int64_t low = std::min(row, column), high = std::max(row, column);
      const double s = at(0, low, high), t = at(1, low, high), e = at(2, low, high);
      const double x = at(3, row, column), turned = at(3, column, row);
      total += e * (s + t) + 2 * (x - e) * turned;
      flat.floats()[row * all_dims + column] = static_cast<float>(s);
      flat.floats()[square + row * all_dims + column] = static_cast<float>(x);
    }
    parts[static_cast<std::size_t>(row)] = total;
  });
  sums.reset();
  const Room right(2 * square / n);
  in_parts(level, 2, batch.threads, [&](std::int64_t which) {
    Word* taken = Parts(Parts::size(square / n)).words(square / n);
    level.take({flat.floats() + which * square, all_dims, all_dims, all_dims}, 0, all_dims, all_dims, taken);
    level.pairs(all_dims, all_dims / n, taken, right.words() + which * square / n);
  });
  const double pairs_of_texts = static_cast<double>(count) * static_cast<double>(count);
  const std::int64_t words = all_dims / n;
  in_parts(level, (count + kRows - 1) / kRows, batch.threads, [&](std::int64_t part) {
    const std::int64_t first = part * kRows, there = std::min(kRows, count - first), rows = whole(there);
    Parts room(2 * Parts::size(rows * words) + Parts::size(rows * all_dims));
    Word *e = room.words(rows * words), *t = room.words(rows * words);
    float* out = room.floats(rows * all_dims);
    level.take(sides[kDifference], first, first + rows, all_dims, e);
    level.take(sides[kTeacher], first, first + rows, all_dims, t);
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      level.multiply(rows, words, e, words, right.words() + panel * words * kPanel, out + panel * rows * kPanel);
      level.add(rows, words, t, words, right.words() + square / n + panel * words * kPanel,
                out + panel * rows * kPanel);
    }
    lay_out(out, there, rows, dim, static_cast<float>(4 / pairs_of_texts), batch.gradient + first * dim);
  });
  double total = 0;
  for (const double part : parts) total += part;
  return total / pairs_of_texts;
}

}  // namespace
}  // namespace leafkit
