#include "search/exact.h"

#include <cmath>
#include <vector>

namespace leafkit {
namespace {

// Shewchuk's sum: parts that do not overlap, in rising order, stand for it exactly ("Adaptive precision floating-point
// arithmetic", 1997).
double sum_of_products(const float* a, const float* b, std::int64_t dim) {
  std::vector<double> parts;
  for (std::int64_t i = 0; i < dim; ++i) {
    double term = static_cast<double>(a[i]) * static_cast<double>(b[i]);  // exact: 48 bits
    std::size_t kept = 0;
    for (double part : parts) {
      if (std::abs(term) < std::abs(part)) std::swap(term, part);
      const double sum = term + part, lost = part - (sum - term);
      if (lost != 0) parts[kept++] = lost;
      term = sum;
    }
    parts.resize(kept);
    parts.push_back(term);
  }
  // From the largest down, until something is lost; half a last digit is decided by the sign of what is below it.
  double high = 0, low = 0;
  while (!parts.empty()) {
    const double before = high, part = parts.back();
    parts.pop_back();
    high = before + part;
    low = part - (high - before);
    if (low != 0) break;
  }
  if (low != 0 && !parts.empty() && (low < 0) == (parts.back() < 0)) {
    const double twice = 2 * low, next = high + twice;
    if (twice == next - high) high = next;
  }
  return high;
}

}  // namespace

double exact_dot(const Kernels& kernels, const float* a, const float* b, std::int64_t dim) {
  const DotSum sum = kernels.dot(a, b, dim);
  if (!std::isfinite(sum.high)) return sum.high;
  // The parts that were lost were themselves added with roundings: at most so much is missing.
  const double terms = static_cast<double>(dim) + 16;
  const double missing = terms * terms * 0x1p-104 * sum.magnitude;
  const double least = sum.high + (sum.low - missing), most = sum.high + (sum.low + missing);
  return least == most ? least : sum_of_products(a, b, dim);
}

}  // namespace leafkit
