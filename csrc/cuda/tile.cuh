// cuda/tile.cuh: a block's tile of inner products: rows of x before 128 rows of y, both with the inner dimension
// adjacent, 64 bytes of it at a time. Tiles of the vector units (any type) and of the matrix unit have one form.
#pragma once

#include "cuda/matrix_unit.cuh"

namespace leafkit::cuda {

constexpr int kTileThreads = 256;
constexpr int kTileColumns = 128;
constexpr int kStepBytes = 64;  // of the inner dimension
constexpr int kStepWords = kStepBytes / 4;

// Rows of values, `stride` bytes apart; what lies past the last row or value counts as 0.
struct Side {
  const unsigned char* data;
  std::int64_t rows, stride;
  std::int64_t bytes;  // of a row's values
  bool words;          // rows begin at whole 16-byte words
};

template <class T>
Side side_of(const T* data, std::int64_t rows, std::int64_t dim) {
  const auto stride = static_cast<std::int64_t>(dim * sizeof(T));
  const bool words = (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride)) % 16 == 0;
  return {reinterpret_cast<const unsigned char*>(data), rows, stride, stride, words};
}

// 16 bytes of a row from byte `at`.
__device__ __forceinline__ int4 read_word(const Side& of, std::int64_t row, std::int64_t at) {
  union {
    int4 whole;
    unsigned char bytes[16];
    std::uint16_t halves[8];
  } word;
  word.whole = int4{0, 0, 0, 0};
  if (row >= of.rows || at >= of.bytes) return word.whole;
  const unsigned char* from = of.data + row * of.stride + at;
  const std::int64_t left = of.bytes - at;
  if (of.words && left >= 16) return *reinterpret_cast<const int4*>(from);
  if ((reinterpret_cast<std::uintptr_t>(of.data) | static_cast<std::uintptr_t>(of.stride)) % 2 == 0 && left % 2 == 0) {
    for (int i = 0; i < 8; ++i)
      if (2 * i < left) word.halves[i] = *reinterpret_cast<const std::uint16_t*>(from + 2 * i);
    return word.whole;
  }
  for (int i = 0; i < 16; ++i)
    if (i < left) word.bytes[i] = from[i];
  return word.whole;
}

// What a tile needs of a side for its next step, held in registers while the last step is multiplied.
template <int kRows>
struct Ahead {
  static constexpr int kWords = kRows * kStepBytes / 16;
  static constexpr int kEach = (kWords + kTileThreads - 1) / kTileThreads;
  int4 words[kEach];

  __device__ __forceinline__ void read(const Side& of, std::int64_t first, std::int64_t at) {
    for (int i = 0; i < kEach; ++i) {
      const int word = static_cast<int>(threadIdx.x) + i * kTileThreads;
      words[i] = word < kWords ? read_word(of, first + word / 4, at + 16 * (word % 4)) : int4{0, 0, 0, 0};
    }
  }
  // f(row, word of four, its 16 bytes)
  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
    for (int i = 0; i < kEach; ++i) {
      const int word = static_cast<int>(threadIdx.x) + i * kTileThreads;
      if (word < kWords) f(word / 4, word % 4, words[i]);
    }
  }
};

// Goes along the inner dimension; what the next step needs is read while a step is multiplied. put_x and put_y lay a
// row's 16 bytes into shared memory: (row, word of four, bytes).
template <int kRows, class PutX, class PutY, class Multiply>
__device__ __forceinline__ void step_along(const Side& x, std::int64_t x_first, const Side& y, std::int64_t y_first,
                                           const PutX& put_x, const PutY& put_y, const Multiply& multiply) {
  Ahead<kRows> x_ahead;
  Ahead<kTileColumns> y_ahead;
  x_ahead.read(x, x_first, 0);
  y_ahead.read(y, y_first, 0);
  for (std::int64_t at = 0; at < x.bytes; at += kStepBytes) {
    __syncthreads();  // the step before is multiplied
    x_ahead.each(put_x);
    y_ahead.each(put_y);
    __syncthreads();
    if (at + kStepBytes < x.bytes) {
      x_ahead.read(x, x_first, at + kStepBytes);
      y_ahead.read(y, y_first, at + kStepBytes);
    }
    multiply();
  }
}

// How the vector units multiply a 4-byte word of a type: what stands in shared memory, and how many of them a word is.
struct PlainFloat32 {
  using Word = float;
  using Sum = float;
  static constexpr int kInWord = 1;
  __device__ static __forceinline__ float value(unsigned word, int) { return __uint_as_float(word); }
  __device__ static __forceinline__ float add(float sum, float x, float y) { return sum + x * y; }
};
template <class T>
struct PlainHalf {
  using Word = float;
  using Sum = float;
  static constexpr int kInWord = 2;
  __device__ static __forceinline__ float value(unsigned word, int i) {
    return to_float(T{static_cast<std::uint16_t>(word >> (16 * i))});
  }
  __device__ static __forceinline__ float add(float sum, float x, float y) { return sum + x * y; }
};
struct PlainInt8 {
  using Word = int;
  using Sum = int;
  static constexpr int kInWord = 1;
  __device__ static __forceinline__ int value(unsigned word, int) { return static_cast<int>(word); }
  __device__ static __forceinline__ int add(int sum, int x, int y) { return __dp4a(x, y, sum); }
};
struct PlainBinary {  // the sum counts bits that differ
  using Word = unsigned;
  using Sum = int;
  static constexpr int kInWord = 1;
  __device__ static __forceinline__ unsigned value(unsigned word, int) { return word; }
  __device__ static __forceinline__ int add(int sum, unsigned x, unsigned y) { return sum + __popc(x ^ y); }
};

// 16 x 16 threads, each with kRows / 16 rows and 8 columns.
template <class Values, int kRowsOf>
struct PlainTile {
  using Sum = typename Values::Sum;
  using Word = typename Values::Word;
  static constexpr int kRows = kRowsOf, kBlocks = kRows == 16 ? 2 : 1;  // blocks a multiprocessor is to hold at least
  static constexpr int kOwnRows = kRows / 16, kOwnColumns = kTileColumns / 16;
  static constexpr int kInner = kStepWords * Values::kInWord;
  static constexpr int kLeft = kRows + 4, kRight = kTileColumns + 4;  // so that stores of a word's values part
  static constexpr std::size_t kShared = std::size_t{kInner} * (kLeft + kRight) * sizeof(Word);
  Sum sums[kOwnRows][kOwnColumns];

  __device__ __forceinline__ void multiply(const Side& x, std::int64_t x_first, const Side& y, std::int64_t y_first,
                                           void* shared) {
    Word* left = static_cast<Word*>(shared);
    Word* right = left + kInner * kLeft;
    const int across = static_cast<int>(threadIdx.x) % 16, down = static_cast<int>(threadIdx.x) / 16;
    for (int r = 0; r < kOwnRows; ++r)
      for (int c = 0; c < kOwnColumns; ++c) sums[r][c] = 0;
    const auto put_left = [&](int row, int word, const int4& bytes) { put(left, kLeft, row, word, bytes); };
    const auto put_right = [&](int row, int word, const int4& bytes) { put(right, kRight, row, word, bytes); };
    step_along<kRows>(x, x_first, y, y_first, put_left, put_right, [&] {
#pragma unroll 4
      for (int k = 0; k < kInner; ++k) {
        Word own_left[kOwnRows], own_right[kOwnColumns];
#pragma unroll
        for (int r = 0; r < kOwnRows; ++r) own_left[r] = left[k * kLeft + down * kOwnRows + r];
#pragma unroll
        for (int c = 0; c < kOwnColumns; ++c) own_right[c] = right[k * kRight + column_of(across, c)];
#pragma unroll
        for (int r = 0; r < kOwnRows; ++r)
#pragma unroll
          for (int c = 0; c < kOwnColumns; ++c) sums[r][c] = Values::add(sums[r][c], own_left[r], own_right[c]);
      }
    });
  }

  // f(row, column, sum) of what this thread holds.
  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
    const int across = static_cast<int>(threadIdx.x) % 16, down = static_cast<int>(threadIdx.x) / 16;
#pragma unroll
    for (int r = 0; r < kOwnRows; ++r)
#pragma unroll
      for (int c = 0; c < kOwnColumns; ++c) f(down * kOwnRows + r, column_of(across, c), sums[r][c]);
  }

 private:
  // Two runs of four, so that a quarter of a warp reads adjacent words.
  __device__ static __forceinline__ int column_of(int across, int c) { return 64 * (c / 4) + 4 * across + c % 4; }
  __device__ static __forceinline__ void put(Word* side, int pitch, int row, int word, const int4& bytes) {
    const unsigned four[4] = {static_cast<unsigned>(bytes.x), static_cast<unsigned>(bytes.y),
                              static_cast<unsigned>(bytes.z), static_cast<unsigned>(bytes.w)};
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < Values::kInWord; ++j)
        side[((4 * word + i) * Values::kInWord + j) * pitch + row] = Values::value(four[i], j);
  }
};

// Eight warps: two by four, each with 64 rows and 32 columns; of few rows all side by side, each with 16 columns.
template <class Values, int kRowsOf>
struct UnitTile {
  using Sum = typename Values::Sum;
  static constexpr int kRows = kRowsOf, kBlocks = kRows == 16 ? 4 : 2;
  static constexpr int kPitch = kStepWords + 4;  // words: eight rows of a fragment then lie in different banks
  static constexpr std::size_t kShared = std::size_t{kRows + kTileColumns} * kPitch * 4;
  static constexpr int kWarpsAcross = kRows == 16 ? 8 : 4, kWarpsDown = kTileThreads / 32 / kWarpsAcross;
  static constexpr int kOwnRows = kRows / kWarpsDown, kOwnColumns = kTileColumns / kWarpsAcross;
  static constexpr int kDown = kOwnRows / 16, kAcross = kOwnColumns / 8;  // fragments of a warp
  Sum sums[kDown][kAcross][4];

  __device__ __forceinline__ void multiply(const Side& x, std::int64_t x_first, const Side& y, std::int64_t y_first,
                                           void* shared) {
    unsigned* left = static_cast<unsigned*>(shared);
    unsigned* right = left + kRows * kPitch;
    const int group = lane_index() / 4, own = lane_index() % 4;
    const unsigned* left_at = left + (first_row() + group) * kPitch + own;
    const unsigned* right_at = right + (first_column() + group) * kPitch + own;
    for (int r = 0; r < kDown; ++r)
      for (int c = 0; c < kAcross; ++c)
        for (int i = 0; i < 4; ++i) sums[r][c][i] = 0;
    const auto put_left = [&](int row, int word, const int4& bytes) { put(left, row, word, bytes); };
    const auto put_right = [&](int row, int word, const int4& bytes) { put(right, row, word, bytes); };
    step_along<kRows>(x, x_first, y, y_first, put_left, put_right, [&] {
#pragma unroll
      for (int k = 0; k < kStepWords; k += 8) {
        unsigned rows[kDown][4], columns[kAcross][2];
#pragma unroll
        for (int r = 0; r < kDown; ++r) {
          const unsigned* from = left_at + 16 * r * kPitch + k;
          rows[r][0] = from[0], rows[r][1] = from[8 * kPitch];
          rows[r][2] = from[4], rows[r][3] = from[8 * kPitch + 4];
        }
#pragma unroll
        for (int c = 0; c < kAcross; ++c) {
          const unsigned* from = right_at + 8 * c * kPitch + k;
          columns[c][0] = from[0], columns[c][1] = from[4];
        }
#pragma unroll
        for (int r = 0; r < kDown; ++r)
#pragma unroll
          for (int c = 0; c < kAcross; ++c) matrix_unit<Values>(sums[r][c], rows[r], columns[c]);
      }
    });
  }

  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
    const int group = lane_index() / 4, own = lane_index() % 4;
#pragma unroll
    for (int r = 0; r < 2 * kDown; ++r)
#pragma unroll
      for (int c = 0; c < 2 * kAcross; ++c)
        f(first_row() + 8 * r + group, first_column() + 8 * (c / 2) + 2 * own + c % 2,
          sums[r / 2][c / 2][2 * (r % 2) + c % 2]);
  }

 private:
  __device__ static __forceinline__ int first_row() { return kOwnRows * (warp_index() / kWarpsAcross); }
  __device__ static __forceinline__ int first_column() { return kOwnColumns * (warp_index() % kWarpsAcross); }
  __device__ static __forceinline__ void put(unsigned* side, int row, int word, const int4& bytes) {
    *reinterpret_cast<int4*>(side + row * kPitch + 4 * word) = bytes;
  }
};

}  // namespace leafkit::cuda
