// encoder/levels.h: what a level compiles for itself: the work on one head of one text, or on a few rows.
#pragma once

#include "encoder/encoder.h"

namespace leafkit {

struct Head {
  std::int64_t length, dim, hidden;  // rows of qkv are 3 hidden apart, of the outputs hidden (qkv's gradient: 3 hidden)
};
// 32-bit words that the attention of one head works in.
constexpr std::int64_t attention_words(std::int64_t length, std::int64_t dim) {
  const std::int64_t padded = (length + 63) / 64 * 64;
  return 16 * padded * dim + 6 * 64 * padded + 64 * dim + 1280;
}

template <class S>
struct EncoderKernels {
  void (*attend)(const Head& head, const S* qkv, const float* bias, S* out, float* kept, std::uint32_t* words);
  void (*attend_backward)(const Head& head, const S* qkv, const float* bias, const S* out, const float* kept,
                          const S* gradient, S* gradient_qkv, std::uint32_t* words);
  void (*gelu)(std::int64_t rows, std::int64_t width, S* in, const float* bias, S* out);
  void (*normalize)(const Norm<S>& norm, S* out);
  void (*normalize_backward)(const Norm<S>& norm, const S* const (&gradients)[2], S* gradient_in, float* sums);
  void (*normalize_floats)(const Norm<float>& norm, S* out);  // the embeddings: float32 in
  void (*normalize_floats_backward)(const Norm<float>& norm, const S* const (&gradients)[2], float* gradient_in,
                                    float* sums);
  void (*transpose)(std::int64_t rows, std::int64_t width, std::int64_t first, std::int64_t last, S* in,
                    const S* factor, S* out, float* sums);
  void (*mean)(std::int64_t rows, std::int64_t width, const S* in, float* out);
  void (*spread)(std::int64_t rows, std::int64_t width, const float* gradient, float factor, S* out);
};

struct EncoderLevel {
  EncoderKernels<float> floats;
  EncoderKernels<std::uint16_t> halves;
};

extern const EncoderLevel kEncoderScalar;
#ifdef LEAFKIT_X86
extern const EncoderLevel kEncoderAvx2;
extern const EncoderLevel kEncoderAvx512;
extern const EncoderLevel kEncoderAvx512Narrow;  // multiplies bfloat16
extern const EncoderLevel kEncoderAmx;           // multiplies tiles of it
#endif

}  // namespace leafkit
