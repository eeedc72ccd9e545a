// losses/relative.h: the hinge between all pairs of pairs.
#pragma once

#include <cstdint>
#include <vector>

namespace leafkit {

struct Relative {
  double value;
  std::vector<double> slopes;  // of the mean in every student score
};
// Mean of max(0, s_q - s_p + margin) over all p and q with t_p > t_q, in O(P log P); 0 where there are none.
Relative relative_hinge(const std::vector<float>& student, const std::vector<float>& teacher, double margin);

}  // namespace leafkit
