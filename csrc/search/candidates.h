// search/candidates.h: what may still be among the k best of one query.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "search/bounds.h"

namespace leafkit {

struct Scored {
  double score;
  std::int64_t row;
};

// NaN ranks below every number, -inf among them; equals rank by row. A strict weak order for any input; a type, so that
// sorting has it inline.
struct RanksBefore {
  bool operator()(const Scored& a, const Scored& b) const {
    if (a.score > b.score) return true;
    if (a.score < b.score) return false;
    const bool nan_a = std::isnan(a.score), nan_b = std::isnan(b.score);
    return nan_a != nan_b ? nan_b : a.row < b.row;
  }
};

// Integers in the order of the floats: -0 is 0, NaN comes before -inf.
using Key = std::int32_t;

inline Key key_of(float value) {
  const auto bits = std::bit_cast<std::int32_t>(value + 0.0f);
  return std::isnan(value) ? std::numeric_limits<Key>::min() : bits ^ ((bits >> 31) & 0x7fffffff);
}

inline float value_of(Key key) {
  return key == std::numeric_limits<Key>::min() ? -std::numeric_limits<float>::infinity()
                                                : std::bit_cast<float>(key ^ ((key >> 31) & 0x7fffffff));
}

inline std::size_t count_from(const std::vector<Key>& keys, Key least) {
  std::int32_t count = 0;  // of 32 bits, as the keys are: the compiler counts several at once
  for (const Key key : keys) count += key >= least ? 1 : 0;
  return static_cast<std::size_t>(count);
}

// A key that at least k keys reach and at most k + `slack`; the k-th largest where equal keys leave no such one.
// Halving the range needs at most 32 looks, which is less than moving the keys about.
inline Key about_kth_largest(const std::vector<Key>& keys, std::size_t k, std::size_t slack) {
  std::int64_t reached = std::numeric_limits<Key>::min(), missed = std::numeric_limits<Key>::max();
  for (const Key key : keys) reached = std::max<std::int64_t>(reached, std::min<std::int64_t>(key, missed));
  missed = reached + 1;  // no key is larger than the largest
  reached = std::numeric_limits<Key>::min();
  for (const Key key : keys) reached = std::min<std::int64_t>(key, missed - 1) < reached ? key : reached;
  while (missed - reached > 1) {
    const std::int64_t middle = reached + (missed - reached) / 2;
    const std::size_t count = count_from(keys, static_cast<Key>(middle));
    (count >= k ? reached : missed) = middle;
    if (count >= k && count <= k + slack) break;
  }
  return static_cast<Key>(reached);
}

// Keeps every document that its bounds leave a chance, and a floor. Documents come in rising row order. Scores are
// either final (`bounded` false) or within an error of the exact one, that `resolve` asks for where it must.
class Candidates {
 public:
  Candidates(std::int64_t k, bool bounded)
      : k_(static_cast<std::size_t>(k)), room_(std::max<std::size_t>(4 * k_, 128)), bounded_(bounded) {}

  // No document that scores less can be among the best k (if scores are final: no later one that scores the same).
  float floor() const { return floor_; }

  // An error that is infinite or NaN: nothing is known of the exact score.
  void insert(float score, float error, std::int64_t row) {
    if (kept_.empty()) kept_.reserve(room_);
    if (!bounded_) {
      kept_.push_back({score, score, row});
    } else if (std::abs(score) + error < kInfinity) {
      kept_.push_back({threshold_below(score, error), -threshold_below(-score, error), row});
    } else {
      kept_.push_back({-kInfinity, kInfinity, row});
    }
    if (kept_.size() >= room_) shrink();
  }

  // Whether so many are kept that they are better resolved now: bounds that tell nothing must not fill the memory.
  bool crowded() const { return bounded_ && kept_.size() > std::max(8 * k_, kMost); }

  void merge(const Candidates& later) {
    kept_.insert(kept_.end(), later.kept_.begin(), later.kept_.end());
    known_.insert(known_.end(), later.known_.begin(), later.known_.end());
    floor_ = std::max(floor_, later.floor_);
  }

  // Leaves only documents with their exact scores: the k best. First those that promise most, then what the k-th of
  // them still leaves a chance. `exact(row)` gives a score, `soon(row)` says which will be asked for.
  template <class Exact, class Soon>
  void resolve(Exact&& exact, Soon&& soon) {
    if (kept_.size() > k_) {
      const float promising = value_of(kth_low());
      score_exactly([&](const Candidate& one) { return one.low >= promising || one.high == kInfinity; }, exact, soon);
      if (known_.size() >= k_) {
        keep_best_known();
        raise_floor(known_.back().score);
      }
    }
    score_exactly([&](const Candidate& one) { return one.high >= floor_; }, exact, soon);
    kept_.clear();
    keep_best_known();
  }

  // The best k by what is known, best first. Scores that are final are so.
  std::vector<Scored>& ranked() {
    for (const Candidate& one : kept_) known_.push_back({static_cast<double>(one.low), one.row});
    kept_.clear();
    keep_best_known();
    return known_;
  }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
  static constexpr std::size_t kMost = 4096;

  struct Candidate {
    float low, high;  // of the exact score; equal where it is final
    std::int64_t row;
  };

  // About the k-th largest of what documents score at least.
  Key kth_low() {
    keys_.resize(kept_.size());
    for (std::size_t i = 0; i < kept_.size(); ++i) keys_[i] = key_of(kept_[i].low);
    for (const Scored& one : known_) keys_.push_back(key_of(below(one.score)));
    return about_kth_largest(keys_, k_, k_ / 8);
  }

  // A float that is not above the score.
  static float below(double score) {
    const float near = static_cast<float>(score);
    return static_cast<double>(near) > score ? std::nextafter(near, -kInfinity) : near;
  }

  void raise_floor(double least) {
    if (below(least) > floor_) floor_ = below(least);  // NaN says nothing
  }

  // Moves the documents that are wanted to those that are known.
  template <class Wanted, class Exact, class Soon>
  void score_exactly(Wanted&& wanted, Exact&& exact, Soon&& soon) {
    constexpr std::size_t kAhead = 3;
    const auto first =
        std::stable_partition(kept_.begin(), kept_.end(), [&](const Candidate& one) { return !wanted(one); });
    const std::vector<Candidate> chosen(first, kept_.end());
    kept_.erase(first, kept_.end());
    for (std::size_t i = 0; i < std::min(kAhead, chosen.size()); ++i) soon(chosen[i].row);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (i + kAhead < chosen.size()) soon(chosen[i + kAhead].row);
      known_.push_back({exact(chosen[i].row), chosen[i].row});
    }
  }

  void keep_best_known() {
    if (known_.size() > k_) {
      std::nth_element(known_.begin(), known_.begin() + static_cast<std::ptrdiff_t>(k_), known_.end(), RanksBefore());
      known_.resize(k_);
    }
    std::sort(known_.begin(), known_.end(), RanksBefore());
  }

  // Keeps what `stays` says, in order.
  template <class Stays>
  void filter(Stays&& stays) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      kept_[count] = kept_[i];
      count += stays(i) ? 1 : 0;
    }
    kept_.resize(count);
  }

  // Finds the floor anew and drops what has no chance.
  void shrink() {
    const Key least = kth_low();
    raise_floor(static_cast<double>(value_of(least)));
    if (bounded_) {
      filter([&](std::size_t i) { return kept_[i].high >= floor_; });
    } else if (const std::size_t all = count_from(keys_, least); all <= k_ + k_ / 8) {
      filter([&](std::size_t i) { return keys_[i] >= least; });
    } else {  // of those that score the same, the first
      std::size_t equal = k_ - (least < std::numeric_limits<Key>::max() ? count_from(keys_, least + 1) : 0);
      filter([&](std::size_t i) { return keys_[i] > least || (keys_[i] == least && equal > 0 && equal-- > 0); });
    }
    if (2 * kept_.size() > room_) room_ *= 2;
    kept_.reserve(room_);
  }

  std::size_t k_, room_;
  bool bounded_;
  float floor_ = -kInfinity;
  std::vector<Candidate> kept_;
  std::vector<Scored> known_;  // exact scores of documents that are not in kept_
  std::vector<Key> keys_;      // room for a selection
};

}  // namespace leafkit
