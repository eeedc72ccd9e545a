// Tiles for CPUs with AMX: 16 queries before 64 documents. A group is what the matrix unit reads as it lies: 16 steps
// of 16 documents are the right-hand tile (rows 256 bytes apart), 64 bytes of 16 queries the left-hand one.
#include <immintrin.h>

#include <cstring>

#include "search/tiles.h"
#include "search/tiles_avx512.h"

namespace leafkit {
namespace {

constexpr std::int64_t kSteps = 16;          // of a tile
constexpr std::int64_t kApart = kGroup * 4;  // bytes from one step to the next
constexpr int kFew = 4;                      // queries that are better off with vectors

// Eight tiles of 16 rows of 64 bytes, as LDTILECFG reads it.
struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void enter() {
  static const Configuration configuration;
  _tile_loadconfig(&configuration);
}

void leave() { _tile_release(); }

// Tiles 0 to 3 are sums, 4 the queries, 5 to 7 documents. The compiler takes loads of tiles for reads of nothing: what
// has been written before them has to be told.
struct Int8 : CodeSums {
  static constexpr Type type = Type::int8;
  [[gnu::always_inline]] static void multiply(const std::byte* documents) {
    _tile_loadd(5, documents, kApart);
    _tile_dpbusd(0, 4, 5);
    _tile_loadd(6, documents + 64, kApart);
    _tile_dpbusd(1, 4, 6);
    _tile_loadd(7, documents + 128, kApart);
    _tile_dpbusd(2, 4, 7);
    _tile_loadd(5, documents + 192, kApart);
    _tile_dpbusd(3, 4, 5);
  }
};

struct Bfloat16 : RealSums {
  static constexpr Type type = Type::bfloat16;
  [[gnu::always_inline]] static void multiply(const std::byte* documents) {
    _tile_loadd(5, documents, kApart);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, documents + 64, kApart);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, documents + 128, kApart);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, documents + 192, kApart);
    _tile_dpbf16ps(3, 4, 5);
  }
};

template <class Kind>
void matrix_tile(int queries, const TileIn& in, TileOut& out) {
  if (queries <= kFew) return (Kind::type == Type::int8 ? kInt8Avx512 : kBfloat16Avx512)(queries, in, out);
  const std::int64_t whole = in.steps / kSteps * kSteps;
  const auto* words = static_cast<const std::uint32_t*>(in.group);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t i = 0; i < whole; i += kSteps) {
    for (std::int64_t line = i; line < i + kSteps; ++line)
      _mm_prefetch(reinterpret_cast<const char*>(in.ahead + 64 * line), _MM_HINT_T1);
    _tile_loadd(4, in.queries + i, in.query_stride * 4);
    Kind::multiply(reinterpret_cast<const std::byte*>(words + i * kGroup));
  }
  if (whole < in.steps) {  // the last steps, with zeros behind them; queries have whole cache lines
    alignas(64) std::uint32_t rest[kSteps * kGroup] = {};
    std::memcpy(rest, words + whole * kGroup, static_cast<std::size_t>((in.steps - whole) * kApart));
    asm volatile("" ::: "memory");
    _tile_loadd(4, in.queries + whole, in.query_stride * 4);
    Kind::multiply(reinterpret_cast<const std::byte*>(rest));
  }
  alignas(64) typename Kind::Sum sums[kMostTileQueries][4];
  _tile_stored(0, &sums[0][0], kApart);
  _tile_stored(1, &sums[0][1], kApart);
  _tile_stored(2, &sums[0][2], kApart);
  _tile_stored(3, &sums[0][3], kApart);
  for (int q = 0; q < queries; ++q) {
    typename Kind::Sum sum[4];
    unrolled<4>([&](auto d) LEAFKIT_INLINE { sum[d] = sums[q][d] + Kind::begin(in, d); });
    end_query<Kind>(in, q, sum, out);
  }
}

}  // namespace

const Tile kInt8Amx = &matrix_tile<Int8>;
const Tile kBfloat16Amx = &matrix_tile<Bfloat16>;
void (*const kEnterAmx)() = &enter;
void (*const kLeaveAmx)() = &leave;

}  // namespace leafkit
