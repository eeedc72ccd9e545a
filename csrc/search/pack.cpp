#include "search/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "base/halves.h"
#include "base/plain.h"
#include "base/pool.h"
#include "search/bounds.h"

namespace leafkit {
namespace {

constexpr std::int64_t kMostCodes = 65536;  // 65,536 x 255 x 127 < 2^31

// Words of a row as `encode` writes them: whole cache lines, float16 in pairs.
std::int64_t words_of(Type type, std::int64_t dim) {
  const std::int64_t bits = type == Type::float16 ? 16 : 32 / dims_per_step(type);
  return (dim * bits + 511) / 512 * 16;
}

}  // namespace

std::int64_t steps_of(Type type, std::int64_t dim) { return (dim + dims_per_step(type) - 1) / dims_per_step(type); }

std::int64_t Packed::bytes() const {
  return group_count() * group_bytes +
         static_cast<std::int64_t>((scale.size() + dim_scale.size()) * sizeof(float) +
                                   start.size() * sizeof(std::int32_t) + distance.size() * sizeof(Distance));
}

GroupWriter::GroupWriter(const Kernels& kernels, Type type, std::int64_t dim, const float* dim_scale)
    : kernels_(kernels),
      type_(type),
      dim_(dim),
      steps_(type == Type::float16 ? (dim + 1) / 2 : steps_of(type, dim)),
      stride_(words_of(type, dim)),
      dim_scale_(dim_scale),
      words_(static_cast<std::size_t>(kPart * stride_)),
      pairs_(static_cast<std::size_t>(type == Type::float16 ? steps_ * kGroup : 0)) {}

Distance GroupWriter::write(const float* const* rows, int count, void* group, float* scale, std::int32_t* start) {
  auto* out = type_ == Type::float16 ? pairs_.data() : static_cast<std::uint32_t*>(group);
  Distance most{0, 0};
  for (int first = 0; first < kGroup; first += kPart) {
    for (int lane = first; lane < first + kPart; ++lane) {
      std::uint32_t* words = words_.data() + (lane - first) * stride_;
      Encoded one{0, 0, 1, 0};
      if (lane < count) {
        one = kernels_.encode(type_, rows[lane], dim_, dim_scale_, words);
        const Distance distance = distance_of(type_, one, dim_);
        most = {std::max(most.residual, distance.residual), std::max(most.norm, distance.norm)};
      } else {
        std::memset(words, 0, static_cast<std::size_t>(stride_) * sizeof(std::uint32_t));
      }
      if (type_ == Type::int8) {
        scale[lane] = one.scale;
        start[lane] = -128 * one.code_sum;
      }
    }
    kernels_.transpose(words_.data(), stride_, steps_, out + first);
  }
  if (type_ == Type::float16) {
    auto* halves = static_cast<std::uint16_t*>(group);
    for (std::int64_t i = 0; i < dim_; ++i) {
      const std::uint32_t* pair = pairs_.data() + i / 2 * kGroup;
      for (int lane = 0; lane < kGroup; ++lane)
        halves[i * kGroup + lane] = static_cast<std::uint16_t>(pair[lane] >> (i % 2 * 16));
    }
  }
  return most;
}

void Halves::widen(std::int64_t number, float* out) const {
  const std::uint16_t* row = rows.row(number);
  for (std::int64_t i = 0; i < rows.dim; ++i)
    out[i] = type == Type::bfloat16 ? from_bfloat16(row[i]) : from_float16(row[i]);
}

Packed pack(Rows<const float> rows, const Halves& halves, Type type, const float* dim_scale, const Kernels& kernels,
            int threads) {
  const PlainArithmetic plain;
  if (type == Type::int8 && rows.dim > kMostCodes)
    throw std::invalid_argument("int8 documents have dim " + std::to_string(rows.dim) + ", at most " +
                                std::to_string(kMostCodes) + " can be summed in 32 bits");
  Packed out{type, rows.count, rows.dim, steps_of(type, rows.dim), 0, nullptr, {}, {}, {}, {}};
  out.group_bytes = out.steps * kGroup * lane_bytes(type);
  const std::int64_t groups = out.group_count();
  out.groups = aligned_bytes(static_cast<std::size_t>(groups * out.group_bytes));
  out.distance.resize(static_cast<std::size_t>(groups));
  if (type == Type::int8) {
    out.scale.resize(static_cast<std::size_t>(groups * kGroup));
    out.start.resize(static_cast<std::size_t>(groups * kGroup));
    if (dim_scale != nullptr) out.dim_scale.assign(dim_scale, dim_scale + rows.dim);
  }
  constexpr std::int64_t kGroupsAtOnce = 64;
  parallel((groups + kGroupsAtOnce - 1) / kGroupsAtOnce, threads, [&](std::int64_t part) {
    GroupWriter writer(kernels, type, rows.dim, dim_scale);
    std::vector<float> wide(rows.data == nullptr ? static_cast<std::size_t>(kGroup * rows.dim) : 0);
    const std::int64_t last = std::min(groups, (part + 1) * kGroupsAtOnce);
    for (std::int64_t number = part * kGroupsAtOnce; number < last; ++number) {
      const float* each[kGroup];
      const std::int64_t first = number * kGroup, count = std::min<std::int64_t>(kGroup, rows.count - first);
      for (std::int64_t lane = 0; lane < count; ++lane) {
        each[lane] = rows.data != nullptr ? rows.row(first + lane) : wide.data() + lane * rows.dim;
        if (rows.data == nullptr) halves.widen(first + lane, wide.data() + lane * rows.dim);
      }
      float* scale = type == Type::int8 ? out.scale.data() + first : nullptr;
      std::int32_t* start = type == Type::int8 ? out.start.data() + first : nullptr;
      out.distance[static_cast<std::size_t>(number)] =
          writer.write(each, static_cast<int>(count), out.groups.get() + number * out.group_bytes, scale, start);
    }
  });
  return out;
}

Prepared prepare(Rows<const float> queries, Type type, const float* dim_scale, const Kernels& kernels) {
  const Type form = type == Type::float16 ? Type::float32 : type;  // half-precision documents meet float32 queries
  const auto count = static_cast<std::size_t>(queries.count), dim = static_cast<std::size_t>(queries.dim);
  Prepared out{words_of(form, queries.dim), {}, {}, {}};
  out.words.resize((count + kMostTileQueries - 1) * static_cast<std::size_t>(out.stride));  // a tile may read 16 rows
  out.distance.resize(count);
  if (type == Type::int8) out.scale.resize(count);
  std::vector<float> scaled(dim_scale != nullptr ? dim : 0);
  for (std::size_t q = 0; q < count; ++q) {
    const float* query = queries.row(static_cast<std::int64_t>(q));
    for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] = query[i] * dim_scale[i];
    std::uint32_t* words = out.words.data() + q * static_cast<std::size_t>(out.stride);
    const Encoded one = kernels.encode(form, scaled.empty() ? query : scaled.data(), queries.dim, nullptr, words);
    const Distance distance = distance_of(form, one, queries.dim);
    out.distance[q] = {distance.residual, distance.norm + distance.residual};
    if (type == Type::int8) {
      out.scale[q] = one.scale;
      for (std::int64_t i = 0; i < out.stride; ++i)
        words[i] ^= 0x80808080u;  // a byte with its highest bit turned: + 128
    }
  }
  return out;
}

}  // namespace leafkit
