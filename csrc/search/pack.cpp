#include "search/pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "base/halves.h"
#include "base/pool.h"

namespace leafkit {
namespace {

constexpr std::int64_t kMostCodes = 65536;  // 65,536 x 255 x 127 < 2^31

float rounded_up(double value) {
  const float near = static_cast<float>(value);
  if (!(value < std::numeric_limits<double>::infinity())) return std::numeric_limits<float>::infinity();  // NaN too
  return static_cast<double>(near) < value ? std::nextafter(near, std::numeric_limits<float>::infinity()) : near;
}

// Square roots of float64 sums of squares; the sums' own rounding is far below the last digit that is added here.
float norm_up(double squares) { return rounded_up(std::sqrt(squares) * (1 + 1e-9)); }

// Codes of one row: the nearest multiples of a scale, at most 127 of them either way.
int code(float value, float scale) {
  const float steps = value / scale;
  return static_cast<int>(std::nearbyint(std::clamp(steps == steps ? steps : 0.0f, -127.0f, 127.0f)));
}

float scale_of(const float* row, std::int64_t dim) {
  float most = 0;
  for (std::int64_t i = 0; i < dim; ++i) most = std::max(most, std::abs(row[i]));
  const float scale = most / 127.0f;
  return scale > 0 && std::isfinite(scale) ? scale : 1.0f;
}

// The value that a lane holds for one dimension, and what it stands for.
struct Lane {
  std::uint32_t bits;
  double stands_for;
};

Lane lane_of(Type type, float value, float scale) {
  switch (type) {
    case Type::bfloat16: {
      const std::uint16_t half = to_bfloat16(value);
      return {half, from_bfloat16(half)};
    }
    case Type::float16: {
      const std::uint16_t half = to_float16(value);
      return {half, from_float16(half)};
    }
    case Type::int8: {
      const int steps = code(value, scale);
      return {static_cast<std::uint8_t>(steps), static_cast<double>(steps) * static_cast<double>(scale)};
    }
    case Type::binary:
      return {value > 0 ? 1u : 0u, value};
    default:
      return {std::bit_cast<std::uint32_t>(value), value};
  }
}

// Writes row `lane` of a group. Gives squared distances.
struct Squares {
  double residual = 0, norm = 0;
};

Squares write_row(const float* row, std::int64_t dim, Type type, float scale, const float* dim_scale, int lane,
                  void* group, std::int64_t* code_sum) {
  const std::int64_t per_step = dims_per_step(type);
  const int bits = static_cast<int>(8 * lane_bytes(type) / per_step);
  auto* words = static_cast<std::uint32_t*>(group);
  auto* halves = static_cast<std::uint16_t*>(group);
  Squares squares;
  for (std::int64_t i = 0; i < dim; ++i) {
    const Lane one = lane_of(type, row[i], dim_scale != nullptr ? dim_scale[i] : scale);
    const std::int64_t at = i / per_step * kGroup + lane;
    if (type == Type::float16)
      halves[at] = static_cast<std::uint16_t>(one.bits);
    else
      words[at] |= one.bits << (i % per_step * bits % 32);
    if (code_sum != nullptr) *code_sum += static_cast<std::int8_t>(one.bits);
    const double away = static_cast<double>(row[i]) - one.stands_for;
    squares.residual += away * away;
    squares.norm += one.stands_for * one.stands_for;
  }
  return squares;
}

void take_in(Distance& most, const Squares& squares) {
  most.residual = std::max(most.residual, norm_up(squares.residual));
  most.norm = std::max(most.norm, norm_up(squares.norm));
}

}  // namespace

std::int64_t steps_of(Type type, std::int64_t dim) { return (dim + dims_per_step(type) - 1) / dims_per_step(type); }

std::int64_t Packed::bytes() const {
  return group_count() * group_bytes +
         static_cast<std::int64_t>((scale.size() + dim_scale.size()) * sizeof(float) +
                                   start.size() * sizeof(std::int32_t) + distance.size() * sizeof(Distance));
}

Packed pack(Rows<const float> rows, Type type, const float* dim_scale, int threads) {
  if (type == Type::int8 && rows.dim > kMostCodes)
    throw std::invalid_argument("int8 documents have dim " + std::to_string(rows.dim) + ", at most " +
                                std::to_string(kMostCodes) + " can be summed in 32 bits");
  Packed out{type, rows.count, rows.dim, steps_of(type, rows.dim), 0, nullptr, {}, {}, {}, {}};
  out.group_bytes = out.steps * kGroup * lane_bytes(type);
  const std::int64_t groups = out.group_count();
  out.groups = zeroed_bytes(static_cast<std::size_t>(groups * out.group_bytes));
  out.distance.resize(static_cast<std::size_t>(groups));
  if (type == Type::int8) {
    out.scale.assign(static_cast<std::size_t>(groups * kGroup), 1.0f);
    out.start.assign(static_cast<std::size_t>(groups * kGroup), 0);
    if (dim_scale != nullptr) out.dim_scale.assign(dim_scale, dim_scale + rows.dim);
  }
  parallel(groups, threads, [&](std::int64_t number) {
    std::byte* group = out.groups.get() + number * out.group_bytes;
    Distance most{0, 0};
    for (int lane = 0; lane < kGroup && number * kGroup + lane < rows.count; ++lane) {
      const std::int64_t document = number * kGroup + lane;
      const float* row = rows.row(document);
      float scale = 1.0f;
      std::int64_t sum = 0;
      if (type == Type::int8 && dim_scale == nullptr) scale = scale_of(row, rows.dim);
      take_in(most, write_row(row, rows.dim, type, scale, dim_scale, lane, group, type == Type::int8 ? &sum : nullptr));
      if (type == Type::int8) {
        out.scale[static_cast<std::size_t>(document)] = scale;
        out.start[static_cast<std::size_t>(document)] = static_cast<std::int32_t>(-128 * sum);
      }
    }
    out.distance[static_cast<std::size_t>(number)] = most;
  });
  return out;
}

Prepared prepare(Rows<const float> queries, Type type, const float* dim_scale) {
  const std::int64_t steps = steps_of(type, queries.dim), per_step = dims_per_step(type);
  Prepared out{steps, {}, {}, {}};
  const auto count = static_cast<std::size_t>(queries.count);
  out.words.assign(count * static_cast<std::size_t>(steps), type == Type::int8 ? 0x80808080u : 0u);
  if (type == Type::int8) out.scale.resize(count);
  out.distance.resize(count);
  std::vector<float> scaled(static_cast<std::size_t>(queries.dim));
  const int bits = static_cast<int>(32 / per_step);
  for (std::int64_t q = 0; q < queries.count; ++q) {
    const float* query = queries.row(q);
    for (std::int64_t i = 0; i < queries.dim; ++i)
      scaled[static_cast<std::size_t>(i)] = dim_scale != nullptr ? query[i] * dim_scale[i] : query[i];
    const float scale = type == Type::int8 ? scale_of(scaled.data(), queries.dim) : 1.0f;
    if (type == Type::int8) out.scale[static_cast<std::size_t>(q)] = scale;
    double residual = 0, norm = 0;
    for (std::int64_t i = 0; i < queries.dim; ++i) {
      const float value = scaled[static_cast<std::size_t>(i)];
      std::uint32_t& word = out.words[static_cast<std::size_t>(q * steps + i / per_step)];
      const int shift = static_cast<int>(i % per_step * bits % 32);
      // Half-precision documents keep the queries' float32.
      const Lane one = lane_of(type == Type::float16 ? Type::float32 : type, value, scale);
      if (type == Type::int8)
        word ^= one.bits << shift;  // a byte + 128 is the byte with its highest bit turned
      else
        word |= one.bits << shift;
      const double away = static_cast<double>(value) - one.stands_for;
      residual += away * away;
      norm += static_cast<double>(value) * static_cast<double>(value);
    }
    out.distance[static_cast<std::size_t>(q)] = {norm_up(residual), norm_up(norm)};
  }
  return out;
}

}  // namespace leafkit
