#include "losses/relative.h"

#include <algorithm>
#include <numeric>

namespace leafkit {
namespace {

// Scores in the teacher's order are cut in two where its score changes. Between the halves every pair counts: with both
// in the student's order, the lower ones that reach a higher one (less the margin) are a tail, whose length and sum
// follow from one walk. Merged, they are the half of a larger cut.
class Hinge {
 public:
  Hinge(const std::vector<float>& student, const std::vector<float>& teacher, double margin)
      : student_(student), teacher_(teacher), margin_(margin), order_(student.size()), aside_(student.size()) {
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    std::sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) { return t(a) < t(b); });
    slopes.assign(student.size(), 0);
    solve(0, order_.size());
  }
  double sum = 0, pairs = 0;
  std::vector<double> slopes;

 private:
  double s(std::int64_t at) const { return student_[static_cast<std::size_t>(at)]; }
  double t(std::int64_t at) const { return teacher_[static_cast<std::size_t>(at)]; }
  double& slope(std::int64_t at) { return slopes[static_cast<std::size_t>(at)]; }
  bool cut_before(std::size_t place) const { return t(order_[place - 1]) < t(order_[place]); }

  void solve(std::size_t first, std::size_t last) {
    std::size_t middle = 0;  // the cut nearest to the middle
    for (std::size_t away = 0, half = first + (last - first) / 2; away <= last - first && middle == 0; ++away) {
      if (half + away < last && half + away > first && cut_before(half + away)) middle = half + away;
      if (middle == 0 && half > first + away && cut_before(half - away)) middle = half - away;
    }
    const auto at = [&](std::size_t place) { return order_.begin() + static_cast<std::ptrdiff_t>(place); };
    const auto by_student = [&](std::int64_t a, std::int64_t b) { return s(a) < s(b); };
    if (middle == 0) {  // all equal to the teacher
      std::sort(at(first), at(last), by_student);
      return;
    }
    solve(first, middle);
    solve(middle, last);
    double tail = 0;
    for (std::size_t q = first; q < middle; ++q) tail += s(order_[q]);
    std::size_t begin = first;
    for (std::size_t p = middle; p < last; ++p) {
      const double from = s(order_[p]) - margin_;
      for (; begin < middle && s(order_[begin]) <= from; ++begin) tail -= s(order_[begin]);
      const auto count = static_cast<double>(middle - begin);
      sum += tail - count * from;
      slope(order_[p]) -= count;
    }
    std::size_t reached = middle;
    for (std::size_t q = first; q < middle; ++q) {
      while (reached < last && s(order_[reached]) - margin_ < s(order_[q])) ++reached;
      slope(order_[q]) += static_cast<double>(reached - middle);
    }
    pairs += static_cast<double>(middle - first) * static_cast<double>(last - middle);
    const auto merged = std::merge(at(first), at(middle), at(middle), at(last), aside_.begin(), by_student);
    std::copy(aside_.begin(), merged, at(first));
  }

  const std::vector<float>&student_, &teacher_;
  double margin_;
  std::vector<std::int64_t> order_, aside_;
};

}  // namespace

Relative relative_hinge(const std::vector<float>& student, const std::vector<float>& teacher, double margin) {
  Hinge hinge(student, teacher, margin);
  if (hinge.pairs > 0)
    for (double& slope : hinge.slopes) slope /= hinge.pairs;
  return {hinge.pairs > 0 ? hinge.sum / hinge.pairs : 0, std::move(hinge.slopes)};
}

}  // namespace leafkit
