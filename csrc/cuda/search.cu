#include <algorithm>
#include <stdexcept>

#include "cuda/search.cuh"

namespace leafkit::cuda {
namespace {

constexpr std::int64_t kMore = 16;  // beside 2 k: what is scored again

std::int64_t kept_of(const Search& of) { return of.exact_queries == nullptr ? of.k : 2 * of.k + kMore; }

int power_of_two(std::int64_t least) {
  int count = 2;
  while (count < least) count *= 2;
  return count;
}

// Few queries take a small tile.
bool few(const Search& of) { return of.queries.count <= 16; }
bool in_unit(const Search& of) {
  return of.matrix_unit && of.documents.type != Type::float32 && of.documents.type != Type::binary;
}
std::int64_t tile_rows(const Search& of) { return few(of) ? 16 : 128; }
std::int64_t query_tiles(const Search& of) { return (of.queries.count + tile_rows(of) - 1) / tile_rows(of); }

// Bytes of the working memory: the lists, the best of every part, the keys to score again.
struct Sizes {
  std::size_t lists, best, keys;
};
Sizes sizes_of(const Search& of) {
  const std::int64_t kept = kept_of(of), keys = sizeof(Key);
  const auto lists = query_tiles(of) * of.parts * tile_rows(of) * list_length(kept) * keys;
  return {static_cast<std::size_t>(lists), static_cast<std::size_t>(of.queries.count * of.parts * kept * keys),
          of.exact_queries == nullptr ? 0 : static_cast<std::size_t>(of.queries.count * kept * keys)};
}

Side side_of(const Packed& of, std::int64_t bytes) {
  const bool words = (reinterpret_cast<std::uintptr_t>(of.codes) | static_cast<std::uintptr_t>(of.stride)) % 16 == 0;
  return {static_cast<const unsigned char*>(of.codes), of.count, of.stride, bytes, words};
}

std::int64_t bytes_of(Type type, std::int64_t dim) {
  if (type == Type::float32) return 4 * dim;
  if (type == Type::int8) return (dim + 3) / 4 * 4;
  if (type == Type::binary) return (dim + 31) / 32 * 4;
  return 2 * dim;
}

template <class Tile, bool kBinary>
void queue(const Search& of, Scan scan_of, Stream stream) {
  const std::size_t sorted = sizeof(Key) * static_cast<std::size_t>(scan_of.length * cut_at_once(scan_of.length));
  const std::size_t shared = std::max(Tile::kShared, sorted) + Tile::kRows * (sizeof(Key) + sizeof(int));
  launch(&scan<Tile, kBinary>, dim3(static_cast<unsigned>(query_tiles(of)), static_cast<unsigned>(of.parts)),
         kTileThreads, shared, stream, scan_of);
}

template <template <class, int> class Tile, class Values, bool kBinary = false>
void queue_sized(const Search& of, const Scan& scan_of, Stream stream) {
  if (few(of)) return queue<Tile<Values, 16>, kBinary>(of, scan_of, stream);
  queue<Tile<Values, 128>, kBinary>(of, scan_of, stream);
}

void queue(const Search& of, const Scan& scan_of, Stream stream) {
  switch (of.documents.type) {
    case Type::float32:
      return queue_sized<PlainTile, PlainFloat32>(of, scan_of, stream);
    case Type::bfloat16:
      if (in_unit(of)) return queue_sized<UnitTile, UnitBFloat16>(of, scan_of, stream);
      return queue_sized<PlainTile, PlainHalf<BFloat16>>(of, scan_of, stream);
    case Type::float16:
      if (in_unit(of)) return queue_sized<UnitTile, UnitFloat16>(of, scan_of, stream);
      return queue_sized<PlainTile, PlainHalf<Float16>>(of, scan_of, stream);
    case Type::int8:
      if (in_unit(of)) return queue_sized<UnitTile, UnitInt8>(of, scan_of, stream);
      return queue_sized<PlainTile, PlainInt8>(of, scan_of, stream);
    case Type::binary:
      return queue_sized<PlainTile, PlainBinary, true>(of, scan_of, stream);
  }
}

}  // namespace

int search_blocks(const Search& of) {
  using Unit = UnitBFloat16;  // the values of a tile do not matter
  using Plain = PlainFloat32;
  if (in_unit(of)) return few(of) ? UnitTile<Unit, 16>::kBlocks : UnitTile<Unit, 128>::kBlocks;
  return few(of) ? PlainTile<Plain, 16>::kBlocks : PlainTile<Plain, 128>::kBlocks;
}

std::size_t search_memory(const Search& of) {
  const Sizes sizes = sizes_of(of);
  return sizes.lists + sizes.best + sizes.keys;
}

void search(const Search& of, float* scores, std::int64_t* rows, void* memory, Stream stream) {
  const std::int64_t kept = kept_of(of), tiles = (of.documents.count + kTileColumns - 1) / kTileColumns;
  const Sizes sizes = sizes_of(of);
  auto* lists = static_cast<unsigned char*>(memory);
  Scan scan_of{};
  const std::int64_t bytes = bytes_of(of.documents.type, of.documents.dim);
  scan_of.queries = side_of(of.queries, bytes), scan_of.documents = side_of(of.documents, bytes);
  scan_of.k = static_cast<int>(kept), scan_of.dim = static_cast<int>(of.documents.dim);
  scan_of.part = std::max<std::int64_t>((tiles + of.parts - 1) / of.parts, 1) * kTileColumns;
  scan_of.length = list_length(kept);
  scan_of.allowed = of.allowed, scan_of.allowed_stride = of.allowed_stride;
  if (of.documents.type == Type::int8)
    scan_of.query_scales = of.queries.scales, scan_of.document_scales = of.documents.scales;
  scan_of.lists = reinterpret_cast<Key*>(lists);
  scan_of.best = reinterpret_cast<Key*>(lists + sizes.lists);
  Key* keys = of.exact_queries == nullptr ? nullptr : reinterpret_cast<Key*>(lists + sizes.lists + sizes.best);
  queue(of, scan_of, stream);
  const auto queries = static_cast<unsigned>(of.queries.count);
  const std::size_t merged = sizeof(Key) * static_cast<std::size_t>(merge_length(kept) + 2);
  launch(&merge, queries, kTileThreads, merged, stream, scan_of.best, of.parts, static_cast<int>(kept),
         static_cast<int>(kept), scores, rows, keys);
  if (keys == nullptr) return;
  const int length = power_of_two(kept);
  launch(&rescore, queries, kTileThreads, sizeof(WideKey) * static_cast<std::size_t>(length), stream, keys,
         static_cast<int>(kept), length, static_cast<int>(of.k), of.exact_queries,
         static_cast<const float*>(of.documents.codes), of.documents.dim, scores, rows);
}

}  // namespace leafkit::cuda
