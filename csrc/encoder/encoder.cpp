#include "encoder/encoder.h"

#include <algorithm>
#include <vector>

#include "base/pool.h"
#include "base/scratch.h"
#include "encoder/levels.h"

namespace leafkit {
namespace {

constexpr std::int64_t kRowsAPart = 64;     // and sums over rows are formed in parts of it: threads change no bit
constexpr std::int64_t kColumnsAPart = 64;  // two cache lines of bfloat16 are read of every row

template <class S>
const EncoderKernels<S>& kernels(Level level) {
  const EncoderLevel* found = &kEncoderScalar;
#ifdef LEAFKIT_X86
  if (level == Level::amx) found = &kEncoderAmx;
  if (level == Level::avx512) found = __builtin_cpu_supports("avx512bf16") ? &kEncoderAvx512Narrow : &kEncoderAvx512;
  if (level == Level::avx2) found = &kEncoderAvx2;
#endif
  (void)level;
  if constexpr (std::is_same_v<S, float>)
    return found->floats;
  else
    return found->halves;
}

// Calls work(first, count) for rows in parts.
template <class Work>
void by_rows(std::int64_t rows, int threads, const Work& work) {
  parallel((rows + kRowsAPart - 1) / kRowsAPart, threads, [&](std::int64_t part) {
    const std::int64_t first = part * kRowsAPart;
    work(first, std::min(kRowsAPart, rows - first));
  });
}

// Calls work(first row, length, head, scratch) for every head of every text.
template <class Work>
void by_heads(const Attention& shape, int threads, const Work& work) {
  const auto texts = static_cast<std::int64_t>(shape.starts.size()) - 1;
  parallel(texts * shape.heads, threads, [&](std::int64_t part) {
    const auto text = static_cast<std::size_t>(part / shape.heads);
    const std::int64_t first = shape.starts[text], length = shape.starts[text + 1] - first;
    if (length > 0) work(first, length, part % shape.heads, scratch(attention_words(length, shape.dim)));
  });
}

template <class S>
void clear_behind(std::span<const std::int64_t> starts, std::int64_t rows, std::int64_t width, S* out) {
  std::fill(out + starts.back() * width, out + rows * width, S{});
}

}  // namespace

template <class S>
void attend(const Attention& shape, const S* qkv, const float* bias, S* out, float* kept, Run run) {
  const auto& level = kernels<S>(run.level);
  const std::int64_t dim = shape.dim, hidden = shape.heads * dim;
  by_heads(shape, run.threads, [&](std::int64_t first, std::int64_t length, std::int64_t head, std::uint32_t* words) {
    level.attend({length, dim, hidden}, qkv + 3 * first * hidden + head * dim, bias + head * dim,
                 out + first * hidden + head * dim, kept + 2 * (head * shape.rows + first), words);
  });
  clear_behind(shape.starts, shape.rows, hidden, out);
}

template <class S>
void attend_backward(const Attention& shape, const S* qkv, const float* bias, const S* out, const float* kept,
                     const S* gradient, S* gradient_qkv, Run run) {
  const auto& level = kernels<S>(run.level);
  const std::int64_t dim = shape.dim, hidden = shape.heads * dim;
  by_heads(shape, run.threads, [&](std::int64_t first, std::int64_t length, std::int64_t head, std::uint32_t* words) {
    const std::int64_t at = first * hidden + head * dim, wide = 3 * first * hidden + head * dim;
    level.attend_backward({length, dim, hidden}, qkv + wide, bias + head * dim, out + at,
                          kept + 2 * (head * shape.rows + first), gradient + at, gradient_qkv + wide, words);
  });
  clear_behind(shape.starts, shape.rows, 3 * hidden, gradient_qkv);
}

template <class S>
void gelu(std::int64_t rows, std::int64_t width, S* in, const float* bias, S* out, Run run) {
  by_rows(rows, run.threads, [&](std::int64_t first, std::int64_t count) {
    kernels<S>(run.level).gelu(count, width, in + first * width, bias, out + first * width);
  });
}

namespace {

template <class In>
Norm<In> part_of(Norm<In> norm, std::int64_t first, std::int64_t count) {
  norm.in += first * norm.width;
  if (norm.residual != nullptr) norm.residual += first * norm.width;
  norm.rows = count;
  return norm;
}

}  // namespace

template <class In, class Out>
void normalize(const Norm<In>& norm, Out* out, Run run) {
  const auto& level = kernels<Out>(run.level);
  by_rows(norm.rows, run.threads, [&](std::int64_t first, std::int64_t count) {
    if constexpr (std::is_same_v<In, Out>)
      level.normalize(part_of(norm, first, count), out + first * norm.width);
    else
      level.normalize_floats(part_of(norm, first, count), out + first * norm.width);
  });
}

template <class In, class Out>
void normalize_backward(const Norm<In>& norm, const Out* const (&gradients)[2], In* gradient_in, float* gradient_scale,
                        float* gradient_shift, Run run) {
  const auto& level = kernels<Out>(run.level);
  const std::int64_t width = norm.width, parts = (norm.rows + kRowsAPart - 1) / kRowsAPart;
  std::vector<float> sums(static_cast<std::size_t>(parts * 2 * width));
  by_rows(norm.rows, run.threads, [&](std::int64_t first, std::int64_t count) {
    const Out* const here[2] = {gradients[0] + first * width,
                                gradients[1] == nullptr ? nullptr : gradients[1] + first * width};
    float* part = sums.data() + first / kRowsAPart * 2 * width;
    if constexpr (std::is_same_v<In, Out>)
      level.normalize_backward(part_of(norm, first, count), here, gradient_in + first * width, part);
    else
      level.normalize_floats_backward(part_of(norm, first, count), here, gradient_in + first * width, part);
  });
  std::fill(gradient_scale, gradient_scale + width, 0.0f);
  std::fill(gradient_shift, gradient_shift + width, 0.0f);
  for (std::int64_t part = 0; part < parts; ++part)
    for (std::int64_t i = 0; i < width; ++i) {
      gradient_scale[i] += sums[static_cast<std::size_t>(2 * part * width + i)];
      gradient_shift[i] += sums[static_cast<std::size_t>((2 * part + 1) * width + i)];
    }
}

template <class S>
void transpose(std::int64_t rows, std::int64_t width, S* in, const S* factor, S* out, float* sums, Run run) {
  parallel((width + kColumnsAPart - 1) / kColumnsAPart, run.threads, [&](std::int64_t part) {
    const std::int64_t first = part * kColumnsAPart, last = std::min(width, first + kColumnsAPart);
    kernels<S>(run.level).transpose(rows, width, first, last, in, factor, out, sums);
  });
}

template <class S>
void pool(std::span<const std::int64_t> starts, std::int64_t width, bool mean, const S* in, float* out, Run run) {
  parallel(static_cast<std::int64_t>(starts.size()) - 1, run.threads, [&](std::int64_t text) {
    const std::int64_t first = starts[static_cast<std::size_t>(text)],
                       last = starts[static_cast<std::size_t>(text) + 1];
    kernels<S>(run.level).mean(mean ? last - first : 1, width, in + first * width, out + text * width);
  });
}

template <class S>
void pool_backward(std::span<const std::int64_t> starts, std::int64_t rows, std::int64_t width, bool mean,
                   const float* gradient, S* gradient_in, Run run) {
  parallel(static_cast<std::int64_t>(starts.size()) - 1, run.threads, [&](std::int64_t text) {
    const std::int64_t first = starts[static_cast<std::size_t>(text)],
                       last = starts[static_cast<std::size_t>(text) + 1];
    S* out = gradient_in + first * width;
    if (!mean) std::fill(out + width, gradient_in + last * width, S{});
    kernels<S>(run.level).spread(mean ? last - first : 1, width, gradient + text * width,
                                 mean ? 1.0f / static_cast<float>(last - first) : 1.0f, out);
  });
  clear_behind(starts, rows, width, gradient_in);
}

#define LEAFKIT_ENCODER(S)                                                                                            \
  template void attend(const Attention&, const S*, const float*, S*, float*, Run);                                    \
  template void attend_backward(const Attention&, const S*, const float*, const S*, const float*, const S*, S*, Run); \
  template void gelu(std::int64_t, std::int64_t, S*, const float*, S*, Run);                                          \
  template void transpose(std::int64_t, std::int64_t, S*, const S*, S*, float*, Run);                                 \
  template void pool(std::span<const std::int64_t>, std::int64_t, bool, const S*, float*, Run);                       \
  template void pool_backward(std::span<const std::int64_t>, std::int64_t, std::int64_t, bool, const float*, S*, Run);
#define LEAFKIT_NORM(In, Out)                          \
  template void normalize(const Norm<In>&, Out*, Run); \
  template void normalize_backward(const Norm<In>&, const Out* const(&)[2], In*, float*, float*, Run);

LEAFKIT_ENCODER(float)
LEAFKIT_ENCODER(std::uint16_t)
LEAFKIT_NORM(float, float)
LEAFKIT_NORM(std::uint16_t, std::uint16_t)
LEAFKIT_NORM(float, std::uint16_t)

}  // namespace leafkit
