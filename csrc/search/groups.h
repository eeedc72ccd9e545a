// search/groups.h: the documents of a call as a run of groups of 64, in whatever form they lie.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "search/pack.h"
#include "search/search.h"
#include "search/tiles.h"

namespace leafkit {

// How documents are looked at: the codes that are held, or rows that become this type on the way.
struct Form {
  Type type;
  bool held;
};

// One group, and what its tile needs of it.
struct Group {
  const std::byte* words;
  const std::byte* next;  // what will be read after it
  const float* scale;
  const std::int32_t* start;
  Distance distance;
};

// The rows of a call: all, or a list of them.
class Listing {
 public:
  explicit Listing(std::int64_t count) : count_(count) {}
  explicit Listing(std::vector<std::int64_t> rows)
      : count_(static_cast<std::int64_t>(rows.size())), listed_(true), rows_(std::move(rows)) {}

  bool listed() const { return listed_; }
  std::int64_t count() const { return count_; }
  std::int64_t groups() const { return (count_ + kGroup - 1) / kGroup; }
  std::int64_t row(std::int64_t place) const { return listed_ ? rows_[static_cast<std::size_t>(place)] : place; }
  int rows_of_group(std::int64_t number) const {
    return static_cast<int>(std::min<std::int64_t>(kGroup, count_ - number * kGroup));
  }

 private:
  std::int64_t count_;
  bool listed_ = false;
  std::vector<std::int64_t> rows_;
};

// Gives groups to one thread. What `read` gave lasts until it is called again.
class GroupReader {
 public:
  GroupReader(const Documents& documents, const Listing& listing, Form form, const Kernels& kernels)
      : documents_(documents),
        listing_(listing),
        form_(form),
        steps_(steps_of(form.type, documents.dim())),
        writer_(kernels, form.type, documents.dim(), nullptr) {
    if (!form.held || listing.listed())
      scratch_ = aligned_bytes(static_cast<std::size_t>(steps_ * kGroup * lane_bytes(form.type)));
  }

  std::int64_t steps() const { return steps_; }

  Group read(std::int64_t number) {
    if (!form_.held) return written(number);
    if (listing_.listed()) return gathered(number);
    const Packed& packed = *documents_.packed;
    const std::byte* words = packed.group(number);
    const bool last = number + 1 == listing_.groups();
    const std::int64_t first = number * kGroup;
    const bool codes = form_.type == Type::int8;
    return {words, last ? words : words + packed.group_bytes, codes ? packed.scale.data() + first : nullptr,
            codes ? packed.start.data() + first : nullptr, packed.distance[static_cast<std::size_t>(number)]};
  }

 private:
  // Rows in the form of the scan.
  Group written(std::int64_t number) {
    const float* rows[kGroup];
    const int count = listing_.rows_of_group(number);
    for (int lane = 0; lane < count; ++lane) rows[lane] = documents_.rows.row(listing_.row(number * kGroup + lane));
    const Distance distance = writer_.write(rows, count, scratch_.get(), scale_, start_);
    return {scratch_.get(), scratch_.get(), scale_, start_, distance};
  }

  // Lanes of the documents that are listed, side by side.
  Group gathered(std::int64_t number) {
    const Packed& packed = *documents_.packed;
    const int count = listing_.rows_of_group(number);
    Distance most{0, 0};
    for (int lane = 0; lane < count; ++lane) {
      const std::int64_t row = listing_.row(number * kGroup + lane), from = row / kGroup;
      const std::byte* group = packed.group(from);
      if (form_.type == Type::float16) {
        copy_lane<std::uint16_t>(group, row % kGroup, lane);
      } else {
        copy_lane<std::uint32_t>(group, row % kGroup, lane);
      }
      if (form_.type == Type::int8) {
        scale_[lane] = packed.scale[static_cast<std::size_t>(row)];
        start_[lane] = packed.start[static_cast<std::size_t>(row)];
      }
      const Distance distance = packed.distance[static_cast<std::size_t>(from)];
      most = {std::max(most.residual, distance.residual), std::max(most.norm, distance.norm)};
    }
    return {scratch_.get(), scratch_.get(), scale_, start_, most};
  }

  template <class Word>
  void copy_lane(const std::byte* group, std::int64_t from, std::int64_t to) {
    const auto* in = reinterpret_cast<const Word*>(group);
    auto* out = reinterpret_cast<Word*>(scratch_.get());
    for (std::int64_t step = 0; step < steps_; ++step) out[step * kGroup + to] = in[step * kGroup + from];
  }

  const Documents& documents_;
  const Listing& listing_;
  Form form_;
  std::int64_t steps_;
  GroupWriter writer_;
  Bytes scratch_;
  float scale_[kGroup] = {};
  std::int32_t start_[kGroup] = {};
};

}  // namespace leafkit
