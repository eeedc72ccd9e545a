#include <optional>
#include <vector>

#include "losses/batch.h"
#include "losses/blocks.h"

namespace leafkit {
namespace {

constexpr std::int64_t kChunk = 256;  // texts that the matrices over dims are summed over at once

// e = s - t, exact where they are near. s s' - t t' = e s' + t e' loses little to cancellation as long as these two do
// not cancel, as they do where the student is the teacher turned. Few texts are compared in float32; of many, bfloat16
// gives up (no value) where the square of the sum is less than a tenth of the sum of the squares.
double relational_of_pairs(const Batch& batch, const BatchKernels& level, const float* differences);
std::optional<double> relational_of_dims(const Batch& batch, const BatchKernels& level, const float* differences);
constexpr double kLeast = 0.1;

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
  Batch exactly = batch;
  exactly.exact = true;
  std::optional<double> value;
  if (count > dim) value = relational_of_dims(batch, kernels(batch), differences);
  if (count > dim && !value) value = relational_of_dims(exactly, kernels(exactly), differences);
  if (count <= dim) value = relational_of_pairs(exactly, kernels(exactly), differences);
  require_finite_value(*value);
  return *value;
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
std::optional<double> relational_of_dims(const Batch& batch, const BatchKernels& level, const float* differences) {
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
  struct Part {
    double total, squares;
  };
  std::vector<Part> parts(static_cast<std::size_t>(all_dims));
  parallel(all_dims, batch.threads, [&](std::int64_t row) {
    double total = 0, squares = 0;
    for (std::int64_t column = 0; column < all_dims; ++column) {
      const std::int64_t low = std::min(row, column), high = std::max(row, column);
      const double s = at(0, low, high), t = at(1, low, high), e = at(2, low, high);
      const double x = at(3, row, column), turned = at(3, column, row);
      squares += e * (s + t);
      total += e * (s + t) + 2 * (x - e) * turned;
      flat.floats()[row * all_dims + column] = static_cast<float>(s);
      flat.floats()[square + row * all_dims + column] = static_cast<float>(x);
    }
    parts[static_cast<std::size_t>(row)] = {total, squares};
  });
  sums.reset();
  double total = 0, squares = 0;
  for (const Part& part : parts) total += part.total, squares += part.squares;
  if (!batch.exact && total < kLeast * squares) return std::nullopt;
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
  return (total < 0 ? 0 : total) / pairs_of_texts;  // NaN stays NaN
}

}  // namespace
}  // namespace leafkit
