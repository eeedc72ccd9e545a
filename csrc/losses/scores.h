// losses/scores.h: forms.h, written once; a level's file compiles it with its own flags.
#pragma once

#include "base/words.h"
#include "losses/forms.h"

namespace leafkit {
namespace {  // unnamed: see lanes.h

template <class Type>
void take_floats(Rows<const float> x, std::int64_t first, std::int64_t last, std::int64_t whole_dim, Word* out) {
  const std::int64_t words = whole_dim / Type::kValues, end = x.count < last ? x.count : last;
  std::int64_t row = first;
  for (; row < end; ++row, out += words) {
    const float* from = x.row(row);
    std::int64_t i = 0;
    for (; i + kLanes <= x.dim; i += kLanes) Type::store_row(out + i / Type::kValues, load(from + i));
    if (i < x.dim) {
      float rest[kLanes] = {};
      for (std::int64_t k = i; k < x.dim; ++k) rest[k - i] = from[k];
      Type::store_row(out + i / Type::kValues, load(rest));
      i += kLanes;
    }
    clear(out + i / Type::kValues, words - i / Type::kValues);
  }
  if (row < last) clear(out, (last - row) * words);
}

void to_columns(std::int64_t rows, std::int64_t words, const Word* in, Word* out) {
  for (std::int64_t row = 0; row < rows; row += kPanel) turn(kPanel, words, in + row * words, out + row * words);
}

template <class Type>
void to_pairs(std::int64_t rows, std::int64_t words, const Word* in, Word* out) {
  constexpr std::int64_t n = Type::kValues;
  for (std::int64_t row = 0; row < rows / n; ++row) {
    const Word* from = in + n * row * words;
    for (std::int64_t i = 0; i < words; i += kLanes) {
      Word* to = out + n * i / kPanel * (rows / n) * kPanel + row * kPanel + n * i % kPanel;
      if constexpr (n == 1) {
        const Bits value = bits_at(from + i);
        __builtin_memcpy(to, &value, sizeof value);
      } else {
        const Bits u = bits_at(from + i), l = bits_at(from + words + i);
        const Bits even = (u & 0xffffu) | (l << 16), odd = (u >> 16) | (l & 0xffff0000u);
        const Bits both[] = {interleaved<false>(even, odd), interleaved<true>(even, odd)};
        __builtin_memcpy(to, both, sizeof both);
      }
    }
  }
}

template <class Type, bool Add>
void multiply_panel(std::int64_t rows, std::int64_t words, const Word* left, std::int64_t left_stride,
                    const Word* panel, float* out) {
  Type::template multiply<Add>(rows, kPanel, words, left, left_stride, panel, out);
}

inline float* score_at(const Tile& tile, float* scores, std::int64_t row, std::int64_t column) {
  return scores + column / kPanel * tile.rows * kPanel + row * kPanel + column % kPanel;
}

// Puts kNowhere where nothing is, and where a row meets itself.
void hide(const Tile& tile, float* scores) {
  for (std::int64_t row = 0; row < tile.rows; ++row) {
    const std::int64_t own = tile.own + row;
    if (own >= 0 && own < tile.columns) *score_at(tile, scores, row, own) = kNowhere;
    for (std::int64_t column = row < tile.there ? tile.valid : 0; column < tile.columns; ++column)
      *score_at(tile, scores, row, column) = kNowhere;
  }
}

// Takes one more vector of largest values into the sums' top; gives the factor by which the sum has to shrink.
float raise(float& top, float& sum, float seen) {
  const float raised = seen > top ? seen : top, factor = exponential(all(top - raised))[0];
  top = raised;
  sum *= factor;
  return factor;
}

template <class Type>
void weigh_tile(const Tile& tile, float* scores, Sums sums, float* own, float* shrink, Word* weights) {
  constexpr std::int64_t n = Type::kValues;
  for (std::int64_t row = 0; row < tile.rows; ++row) {
    const std::int64_t at = tile.own + row;
    if (at >= 0 && at < tile.valid) own[row] = *score_at(tile, scores, row, at) * tile.scale;
  }
  hide(tile, scores);
  for (std::int64_t row = 0; row < tile.rows; ++row) {
    Lanes most = all(kNowhere);
    for (std::int64_t column = 0; column < tile.columns; column += kPanel)
      for (std::int64_t i = 0; i < kPanel; i += kLanes)
        most = larger(most, load(score_at(tile, scores, row, column) + i));
    shrink[row] = raise(sums.top[row], sums.sum[row], largest(most) * tile.scale);
    Lanes total{};
    Word* weight = weights + row * (tile.columns / n);
    for (std::int64_t column = 0; column < tile.columns; column += kPanel)
      for (std::int64_t i = 0; i < kPanel; i += kLanes) {
        const Lanes value =
            exponential(fma(load(score_at(tile, scores, row, column) + i), all(tile.scale), all(-sums.top[row])));
        total += value;
        Type::store_row(weight + (column + i) / n, value);
      }
    sums.sum[row] += sum(total);
  }
}

void shrink_rows(std::int64_t rows, std::int64_t panels, const float* factors, float* sums) {
  for (std::int64_t panel = 0; panel < panels; ++panel)
    for (std::int64_t row = 0; row < rows; ++row, sums += kPanel)
      for (std::int64_t i = 0; i < kPanel; i += kLanes) store(sums + i, load(sums + i) * factors[row]);
}

void observe_tile(const Tile& tile, float* scores, Sums rows, Sums columns) {
  hide(tile, scores);
  for (std::int64_t row = 0; row < tile.rows; ++row) {
    Lanes most = all(kNowhere), total{};
    for (std::int64_t column = 0; column < tile.columns; column += kPanel)
      for (std::int64_t i = 0; i < kPanel; i += kLanes)
        most = larger(most, load(score_at(tile, scores, row, column) + i));
    raise(rows.top[row], rows.sum[row], largest(most) * tile.scale);
    for (std::int64_t column = 0; column < tile.columns; column += kPanel)
      for (std::int64_t i = 0; i < kPanel; i += kLanes)
        total += exponential(fma(load(score_at(tile, scores, row, column) + i), all(tile.scale), all(-rows.top[row])));
    rows.sum[row] += sum(total);
  }
  if (columns.top == nullptr) return;
  for (std::int64_t column = 0; column < tile.columns; column += kLanes) {
    const float* scores_of = score_at(tile, scores, 0, column);
    Lanes most = all(kNowhere);
    for (std::int64_t row = 0; row < tile.rows; ++row) most = larger(most, load(scores_of + row * kPanel));
    const Lanes before = load(columns.top + column), top = larger(before, most * tile.scale);
    Lanes total = load(columns.sum + column) * exponential(before - top);
    for (std::int64_t row = 0; row < tile.rows; ++row)
      total += exponential(fma(load(scores_of + row * kPanel), all(tile.scale), -top));
    store(columns.top + column, top);
    store(columns.sum + column, total);
  }
}

template <class Type>
double differ_tile(const Tile& tile, float* student, float* teacher, const float* const (&of_rows)[2],
                   const float* const (&of_columns)[2], Word* out, Word* out_pairs) {
  constexpr int n = Type::kValues;
  const bool both = tile.own <= -tile.rows;  // no row meets itself: the columns are rows of their own
  hide(tile, student);
  hide(tile, teacher);
  double total = 0;
  for (std::int64_t row = 0; row < tile.rows; row += n) {
    Lanes divergence{};
    for (std::int64_t column = 0; column < tile.columns; column += kLanes) {
      const Lanes student_column = load(of_columns[0] + column), teacher_column = load(of_columns[1] + column);
      Lanes slope[n];
      for (int k = 0; k < n; ++k) {
        const std::int64_t at = score_at(tile, student, row + k, column) - student;
        const Lanes s = load(student + at) * tile.scale, t = load(teacher + at) * tile.scale;
        const Lanes log_q = s - of_rows[0][row + k], log_p = t - of_rows[1][row + k];
        const Lanes log_q_column = s - student_column, log_p_column = t - teacher_column;
        const Lanes p = exponential(log_p), p_column = exponential(log_p_column);
        slope[k] = (exponential(log_q) - p) + (exponential(log_q_column) - p_column);
        divergence = fma(p, log_p - log_q, divergence);
        if (both) divergence = fma(p_column, log_p_column - log_q_column, divergence);
        Type::store_row(out + (row + k) * (tile.columns / n) + column / n, slope[k]);
      }
      Type::store_over_rows(out_pairs + row / n * tile.columns + column, slope);
    }
    total += static_cast<double>(sum(divergence));
  }
  return total;
}

template <class Type>
constexpr BatchKernels batch_kernels() {
  return {Type::kValues,
          &Type::begin,
          &Type::end,
          &take_floats<Type>,
          &to_columns,
          &to_pairs<Type>,
          &turn,
          &multiply_panel<Type, false>,
          &multiply_panel<Type, true>,
          &weigh_tile<Type>,
          &shrink_rows,
          &observe_tile,
          &differ_tile<Type>};
}

}  // namespace
}  // namespace leafkit
