#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "encoder/encoder.h"
#include "encoder/products.h"
#include "python/bind.h"

namespace leafkit {
namespace {

template <class S>
using Array = py::array_t<S>;
using Starts = py::array_t<std::int64_t>;

std::string shape_of(const py::array& array) {
  std::string out = "(";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) out += (i > 0 ? ", " : "") + std::to_string(array.shape(i));
  return out + ")";
}

// Refuses an array of another shape, or one whose values are not adjacent.
void check(const py::array& array, const char* name, std::initializer_list<std::int64_t> shape) {
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  std::string wanted;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto size = static_cast<py::ssize_t>(shape.begin()[i]);
    same = same && array.shape(static_cast<py::ssize_t>(i)) == size;
    wanted += (i > 0 ? ", " : "(") + std::to_string(size);
  }
  if (!same)
    throw std::invalid_argument(std::string(name) + " has shape " + shape_of(array) + ", expected " + wanted + ")");
  if ((array.flags() & py::array::c_style) == 0)
    throw std::invalid_argument(std::string(name) + " needs adjacent values, row after row");
}

// The rows and the width of a matrix.
struct Size {
  std::int64_t rows, width;
};
Size size_of(const py::array& array, const char* name) {
  if (array.ndim() != 2 || array.shape(1) % kWidthStep != 0)
    throw std::invalid_argument(std::string(name) + " has shape " + shape_of(array) +
                                ", expected (rows, width), width a " + "multiple of " + std::to_string(kWidthStep));
  check(array, name, {array.shape(0), array.shape(1)});
  return {array.shape(0), array.shape(1)};
}

std::span<const std::int64_t> checked_starts(const Starts& starts, std::int64_t rows) {
  if (starts.ndim() != 1 || starts.size() < 2)
    throw std::invalid_argument("starts has shape " + shape_of(starts) + ", expected (texts + 1,), at least 1 text");
  check(starts, "starts", {starts.size()});
  const std::span<const std::int64_t> out{starts.data(), static_cast<std::size_t>(starts.size())};
  for (std::size_t i = 1; i < out.size(); ++i)
    if (out[i] <= out[i - 1])
      throw std::invalid_argument("starts[" + std::to_string(i) + "] is " + std::to_string(out[i]) + " after " +
                                  std::to_string(out[i - 1]) + ": every text needs at least 1 row");
  if (out.front() != 0 || out.back() > rows)
    throw std::invalid_argument("starts go from " + std::to_string(out.front()) + " to " + std::to_string(out.back()) +
                                ", expected 0 to at most " + std::to_string(rows) + " rows");
  return out;
}

Run run_of(int threads, const std::string& level) { return {thread_count(threads), level_named(level)}; }

Attention attention_of(const Size& size, const Starts& starts, std::int64_t heads) {
  if (heads < 1 || size.width % (3 * heads * kWidthStep) != 0 || size.width / (3 * heads) > kMostHeadDim)
    throw std::invalid_argument("qkv has width " + std::to_string(size.width) + " and " + std::to_string(heads) +
                                " heads: a head's dim must be a multiple of 16, at most " +
                                std::to_string(kMostHeadDim));
  return {checked_starts(starts, size.rows), size.rows, heads, size.width / (3 * heads)};
}

template <class S>
void bind_attend(const Array<S>& qkv, const Matrix& bias, const Starts& starts, std::int64_t heads, Array<S>& out,
                 Matrix& kept, int threads, const std::string& level) {
  const Size size = size_of(qkv, "qkv");
  const Attention shape = attention_of(size, starts, heads);
  check(bias, "bias", {size.width});
  check(out, "out", {size.rows, size.width / 3});
  check(kept, "kept", {heads, size.rows, 2});
  const Run run = run_of(threads, level);
  S* to = out.mutable_data();
  float* keep = kept.mutable_data();
  const py::gil_scoped_release release;
  attend(shape, qkv.data(), bias.data(), to, keep, run);
}

template <class S>
void bind_attend_backward(const Array<S>& qkv, const Matrix& bias, const Starts& starts, std::int64_t heads,
                          const Array<S>& out, const Matrix& kept, const Array<S>& gradient, Array<S>& gradient_qkv,
                          int threads, const std::string& level) {
  const Size size = size_of(qkv, "qkv");
  const Attention shape = attention_of(size, starts, heads);
  check(bias, "bias", {size.width});
  check(out, "out", {size.rows, size.width / 3});
  check(kept, "kept", {heads, size.rows, 2});
  check(gradient, "gradient", {size.rows, size.width / 3});
  check(gradient_qkv, "gradient_qkv", {size.rows, size.width});
  const Run run = run_of(threads, level);
  S* to = gradient_qkv.mutable_data();
  const py::gil_scoped_release release;
  attend_backward(shape, qkv.data(), bias.data(), out.data(), kept.data(), gradient.data(), to, run);
}

template <class S>
void bind_gelu(Array<S>& in, const Matrix& bias, Array<S>& out, int threads, const std::string& level) {
  const Size size = size_of(in, "in");
  check(bias, "bias", {size.width});
  check(out, "out", {size.rows, size.width});
  const Run run = run_of(threads, level);
  S *from = in.mutable_data(), *to = out.mutable_data();
  const py::gil_scoped_release release;
  gelu(size.rows, size.width, from, bias.data(), to, run);
}

template <class In>
Norm<In> norm_of(const Array<In>& in, const std::optional<Matrix>& bias, const std::optional<Array<In>>& residual,
                 const Matrix& scale, const Matrix& shift, float epsilon) {
  const Size size = size_of(in, "in");
  if (size.width > kMostWidth)
    throw std::invalid_argument("in has width " + std::to_string(size.width) + ", expected at most " +
                                std::to_string(kMostWidth));
  if (bias) check(*bias, "bias", {size.width});
  if (residual) check(*residual, "residual", {size.rows, size.width});
  check(scale, "scale", {size.width});
  check(shift, "shift", {size.width});
  return {size.rows,    size.width,   in.data(), bias ? bias->data() : nullptr, residual ? residual->data() : nullptr,
          scale.data(), shift.data(), epsilon};
}

template <class In, class Out>
void bind_normalize(const Array<In>& in, const std::optional<Matrix>& bias, const std::optional<Array<In>>& residual,
                    const Matrix& scale, const Matrix& shift, float epsilon, Array<Out>& out, int threads,
                    const std::string& level) {
  const Norm<In> norm = norm_of(in, bias, residual, scale, shift, epsilon);
  check(out, "out", {norm.rows, norm.width});
  const Run run = run_of(threads, level);
  Out* to = out.mutable_data();
  const py::gil_scoped_release release;
  normalize(norm, to, run);
}

template <class In, class Out>
void bind_normalize_backward(const Array<In>& in, const std::optional<Matrix>& bias,
                             const std::optional<Array<In>>& residual, const Matrix& scale, const Matrix& shift,
                             float epsilon, const Array<Out>& gradient, const std::optional<Array<Out>>& more,
                             Array<In>& gradient_in, Matrix& gradient_scale, Matrix& gradient_shift, int threads,
                             const std::string& level) {
  const Norm<In> norm = norm_of(in, bias, residual, scale, shift, epsilon);
  check(gradient, "gradient", {norm.rows, norm.width});
  if (more) check(*more, "more", {norm.rows, norm.width});
  check(gradient_in, "gradient_in", {norm.rows, norm.width});
  check(gradient_scale, "gradient_scale", {norm.width});
  check(gradient_shift, "gradient_shift", {norm.width});
  const Run run = run_of(threads, level);
  const Out* const gradients[2] = {gradient.data(), more ? more->data() : nullptr};
  In* to = gradient_in.mutable_data();
  float *to_scale = gradient_scale.mutable_data(), *to_shift = gradient_shift.mutable_data();
  const py::gil_scoped_release release;
  normalize_backward(norm, gradients, to, to_scale, to_shift, run);
}

template <class S>
void bind_transpose(Array<S>& in, const std::optional<Array<S>>& factor, Array<S>& out, Matrix& sums, int threads,
                    const std::string& level) {
  const Size size = size_of(in, "in");
  if (factor) check(*factor, "factor", {size.rows, size.width});
  check(out, "out", {size.width, size.rows});
  check(sums, "sums", {size.width});
  const Run run = run_of(threads, level);
  S *from = in.mutable_data(), *to = out.mutable_data();
  float* to_sums = sums.mutable_data();
  const S* by = factor ? factor->data() : nullptr;
  const py::gil_scoped_release release;
  transpose(size.rows, size.width, from, by, to, to_sums, run);
}

template <class S>
void bind_pool(const Array<S>& in, const Starts& starts, bool mean, Matrix& out, int threads,
               const std::string& level) {
  const Size size = size_of(in, "in");
  const auto texts = checked_starts(starts, size.rows);
  check(out, "out", {starts.size() - 1, size.width});
  const Run run = run_of(threads, level);
  float* to = out.mutable_data();
  const py::gil_scoped_release release;
  pool(texts, size.width, mean, in.data(), to, run);
}

template <class S>
void bind_pool_backward(const Matrix& gradient, const Starts& starts, bool mean, Array<S>& gradient_in, int threads,
                        const std::string& level) {
  const Size size = size_of(gradient_in, "gradient_in");
  const auto texts = checked_starts(starts, size.rows);
  check(gradient, "gradient", {starts.size() - 1, size.width});
  const Run run = run_of(threads, level);
  S* to = gradient_in.mutable_data();
  const py::gil_scoped_release release;
  pool_backward(texts, size.rows, size.width, mean, gradient.data(), to, run);
}

using Halves = Array<std::uint16_t>;

// The size of a matrix that a product takes: both its sides are multiples of kProductStep.
Size product_size(const py::array& array, const char* name) {
  const Size size = size_of(array, name);
  if (size.rows % kProductStep != 0 || size.width % kProductStep != 0)
    throw std::invalid_argument(std::string(name) + " has shape " + shape_of(array) + ", expected multiples of " +
                                std::to_string(kProductStep));
  return size;
}

void check_level(const std::string& level) {
  if (!has_products(level_named(level))) throw std::invalid_argument("products need level amx");
}

void bind_weight_gradient(Halves& gradient, const std::optional<Halves>& factor, const Halves& x, Halves& packed,
                          Matrix& out, Matrix& sums, int threads, const std::string& level) {
  const Size size = product_size(gradient, "gradient"), of = product_size(x, "x");
  check(x, "x", {size.rows, of.width});
  if (factor) check(*factor, "factor", {size.rows, size.width});
  check(packed, "packed", {size.rows * std::min(size.width, of.width)});
  check(out, "out", {size.width, of.width});
  check(sums, "sums", {size.width});
  check_level(level);
  const int count = thread_count(threads);
  const WeightGradient work{size.rows,
                            size.width,
                            of.width,
                            gradient.mutable_data(),
                            factor ? factor->data() : nullptr,
                            x.data(),
                            packed.mutable_data(),
                            out.mutable_data(),
                            sums.mutable_data()};
  const py::gil_scoped_release release;
  weight_gradient(work, count);
}

// Every argument that is an array is taken as it is or refused: a converted copy of an output would be lost.
template <class In, class Out>
void bind_norm(py::module_& module) {
  module.def("normalize", &bind_normalize<In, Out>, py::arg("in_").noconvert(), py::arg("bias").noconvert(),
             py::arg("residual").noconvert(), py::arg("scale").noconvert(), py::arg("shift").noconvert(),
             py::arg("epsilon"), py::arg("out").noconvert(), py::arg("threads") = 0, py::arg("level") = "");
  module.def("normalize_backward", &bind_normalize_backward<In, Out>, py::arg("in_").noconvert(),
             py::arg("bias").noconvert(), py::arg("residual").noconvert(), py::arg("scale").noconvert(),
             py::arg("shift").noconvert(), py::arg("epsilon"), py::arg("gradient").noconvert(),
             py::arg("more").noconvert(), py::arg("gradient_in").noconvert(), py::arg("gradient_scale").noconvert(),
             py::arg("gradient_shift").noconvert(), py::arg("threads") = 0, py::arg("level") = "");
}

template <class S>
void bind_type(py::module_& module) {
  module.def("attend", &bind_attend<S>, py::arg("qkv").noconvert(), py::arg("bias").noconvert(),
             py::arg("starts").noconvert(), py::arg("heads"), py::arg("out").noconvert(), py::arg("kept").noconvert(),
             py::arg("threads") = 0, py::arg("level") = "");
  module.def("attend_backward", &bind_attend_backward<S>, py::arg("qkv").noconvert(), py::arg("bias").noconvert(),
             py::arg("starts").noconvert(), py::arg("heads"), py::arg("out").noconvert(), py::arg("kept").noconvert(),
             py::arg("gradient").noconvert(), py::arg("gradient_qkv").noconvert(), py::arg("threads") = 0,
             py::arg("level") = "");
  module.def("gelu", &bind_gelu<S>, py::arg("in_").noconvert(), py::arg("bias").noconvert(), py::arg("out").noconvert(),
             py::arg("threads") = 0, py::arg("level") = "");
  module.def("transpose", &bind_transpose<S>, py::arg("in_").noconvert(), py::arg("factor").noconvert(),
             py::arg("out").noconvert(), py::arg("sums").noconvert(), py::arg("threads") = 0, py::arg("level") = "");
  module.def("pool", &bind_pool<S>, py::arg("in_").noconvert(), py::arg("starts").noconvert(), py::arg("mean"),
             py::arg("out").noconvert(), py::arg("threads") = 0, py::arg("level") = "");
  module.def("pool_backward", &bind_pool_backward<S>, py::arg("gradient").noconvert(), py::arg("starts").noconvert(),
             py::arg("mean"), py::arg("gradient_in").noconvert(), py::arg("threads") = 0, py::arg("level") = "");
}

}  // namespace

void bind_encoder(py::module_& module) {
  bind_type<float>(module);
  bind_type<std::uint16_t>(module);
  bind_norm<float, float>(module);
  bind_norm<std::uint16_t, std::uint16_t>(module);
  bind_norm<float, std::uint16_t>(module);
  module.def(
      "has_products", [](const std::string& level) { return has_products(level_named(level)); }, py::arg("level") = "");
  module.def("weight_gradient", &bind_weight_gradient, py::arg("gradient").noconvert(), py::arg("factor").noconvert(),
             py::arg("x").noconvert(), py::arg("packed").noconvert(), py::arg("out").noconvert(),
             py::arg("sums").noconvert(), py::arg("threads") = 0, py::arg("level") = "");
}

}  // namespace leafkit
