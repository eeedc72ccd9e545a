// search/candidates.h: what may still be among the k best of one query.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace leafkit {

struct Scored {
  double score;
  std::int64_t row;
};

// NaN ranks below every number, -inf among them; equals rank by row. A strict weak order for any input.
inline bool ranks_before(const Scored& a, const Scored& b) {
  const bool nan_a = std::isnan(a.score), nan_b = std::isnan(b.score);
  if (nan_a != nan_b) return nan_b;
  if (!nan_a && a.score != b.score) return a.score > b.score;
  return a.row < b.row;
}

// A document whose exact score lies in [low, high]; one that is known has low = high.
struct Candidate {
  double low, high;
  std::int64_t row;
};

inline bool lower_bound_before(const Candidate& a, const Candidate& b) {
  return ranks_before({a.low, a.row}, {b.low, b.row});
}

// Keeps every document that the bounds leave a chance, and a floor: k documents score at least that much.
class Candidates {
 public:
  explicit Candidates(std::int64_t k)
      : k_(k), room_(std::max<std::int64_t>(4 * k, 64)), most_(std::max(8 * k, kMost)) {}

  // No document whose `high` is below this can be among the best k; -inf while fewer than k numbers are known.
  double floor() const { return floor_; }

  // `low` and `high` may be NaN: such a score ranks last.
  void insert(double low, double high, std::int64_t row) {
    if (kept_.empty()) kept_.reserve(static_cast<std::size_t>(room_));
    kept_.push_back({low, high, row});
    if (static_cast<std::int64_t>(kept_.size()) >= room_) shrink();
  }

  // Whether so many are kept that they are better resolved now: bounds that tell nothing must not fill the memory.
  bool crowded() const { return static_cast<std::int64_t>(kept_.size()) > most_; }

  void merge(const Candidates& other) {
    kept_.insert(kept_.end(), other.kept_.begin(), other.kept_.end());
    floor_ = std::max(floor_, other.floor_);
  }

  // Leaves the best k with their exact scores, best first. The most promising are scored first, until none that is left
  // has a chance. `exact(row)` gives a score, `soon(row)` says which will be asked for.
  template <class Exact, class Soon>
  void resolve(Exact&& exact, Soon&& soon) {
    std::sort(kept_.begin(), kept_.end(),
              [](const Candidate& a, const Candidate& b) { return ranks_before({a.high, a.row}, {b.high, b.row}); });
    const auto k = static_cast<std::size_t>(k_);
    std::size_t known = 0, look = k;
    for (; known < kept_.size(); ++known) {
      if (known == look) {  // the k-th best of those known is the floor; looked at again after a few more
        std::nth_element(kept_.begin(), at(k - 1), at(known), lower_bound_before);
        raise_floor(kept_[k - 1].low);
        look += std::max<std::size_t>(8, k / 8);
      }
      Candidate& next = kept_[known];
      if (next.high < floor_) break;
      if (next.low == next.high) continue;
      if (known + 2 < kept_.size()) soon(kept_[known + 2].row);
      next.low = next.high = exact(next.row);
    }
    kept_.resize(known);
    rank();
  }

  // Leaves the best k by their final scores, best first.
  void rank() {
    const std::size_t wanted = std::min(kept_.size(), static_cast<std::size_t>(k_));
    std::partial_sort(kept_.begin(), at(wanted), kept_.end(), lower_bound_before);
    kept_.resize(wanted);
    if (static_cast<std::int64_t>(wanted) == k_) raise_floor(kept_.back().low);
  }

  const std::vector<Candidate>& kept() const { return kept_; }

 private:
  std::vector<Candidate>::iterator at(std::size_t place) { return kept_.begin() + static_cast<std::ptrdiff_t>(place); }

  void raise_floor(double least) {
    if (least > floor_) floor_ = least;  // not where it is NaN
  }

  void shrink() {
    std::nth_element(kept_.begin(), at(static_cast<std::size_t>(k_ - 1)), kept_.end(), lower_bound_before);
    const double least = kept_[static_cast<std::size_t>(k_ - 1)].low;
    raise_floor(least);
    // What stands behind the k-th stays if its bounds leave it a chance. Known scores behind it have none: equal ones
    // are of later rows. If the k-th is NaN, all numbers stand before it.
    const auto hopeless = [&](const Candidate& one) {
      return std::isnan(least) || std::isnan(one.high) || one.high < floor_ || one.low == one.high;
    };
    kept_.erase(std::remove_if(at(static_cast<std::size_t>(k_)), kept_.end(), hopeless), kept_.end());
    if (2 * static_cast<std::int64_t>(kept_.size()) > room_) room_ *= 2;
  }

  static constexpr std::int64_t kMost = 4096;

  std::int64_t k_, room_, most_;
  std::vector<Candidate> kept_;
  double floor_ = -std::numeric_limits<double>::infinity();
};

}  // namespace leafkit
