// search/topk.h: the k best of one query so far, in trec order of scan: score, then the lower row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace leafkit {

struct Scored {
  float score;
  std::int64_t row;
};

// NaN ranks below every number, -inf among them; equals rank by row. A strict weak order for any input.
inline bool ranks_before(const Scored& a, const Scored& b) {
  const bool nan_a = std::isnan(a.score), nan_b = std::isnan(b.score);
  if (nan_a != nan_b) return nan_b;
  if (!nan_a && a.score != b.score) return a.score > b.score;
  return a.row < b.row;
}

// A buffer of up to 2k: cut back to the best k whenever it is full, so an insertion costs a constant on average.
class TopK {
 public:
  explicit TopK(std::int64_t k) : k_(k) { kept_.reserve(static_cast<std::size_t>(2 * k)); }

  // Whether a score may enter. While fewer than k are kept everything does; after that only what beats the k-th, and
  // rows come in rising order, so an equal score never does. NaN compares false with a number.
  bool admits(float score) const { return open_ || score > threshold_ || (below_all_ && !std::isnan(score)); }

  void insert(float score, std::int64_t row) {
    kept_.push_back({score, row});
    if (static_cast<std::int64_t>(kept_.size()) == (open_ ? k_ : 2 * k_)) shrink();
  }

  // The best k, best first.
  const std::vector<Scored>& finish() {
    std::sort(kept_.begin(), kept_.end(), ranks_before);
    if (static_cast<std::int64_t>(kept_.size()) > k_) kept_.resize(static_cast<std::size_t>(k_));
    return kept_;
  }

 private:
  void shrink() {
    std::nth_element(kept_.begin(), kept_.begin() + (k_ - 1), kept_.end(), ranks_before);
    kept_.resize(static_cast<std::size_t>(k_));
    const float worst = kept_[static_cast<std::size_t>(k_ - 1)].score;
    open_ = false;
    below_all_ = std::isnan(worst);  // any number beats a NaN
    threshold_ = below_all_ ? std::numeric_limits<float>::infinity() : worst;
  }

  std::int64_t k_;
  std::vector<Scored> kept_;
  bool open_ = true;
  bool below_all_ = false;
  float threshold_ = 0;
};

}  // namespace leafkit
