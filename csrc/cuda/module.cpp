// cuda/module.cpp: the module _C_cuda, and in tests _C_emu, the same on the emulation. Pointers and streams come as
// numbers, as torch gives them; leafkit/ops/cuda.py has checked everything.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "cuda/api.h"
#ifdef LEAFKIT_EMULATED
#include "cuda/emulation.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace leafkit::cuda {
namespace {

namespace py = pybind11;
using Address = std::uintptr_t;

Matrix matrix(Address data, std::int64_t rows, std::int64_t dim) {
  return {reinterpret_cast<const void*>(data), rows, dim};
}

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Alignment alignment_of(Address student, Address teacher, std::int64_t rows, std::int64_t dim, Type type, Metric metric,
                       const std::vector<std::int64_t>& widths, const std::vector<float>& shares, Address weights,
                       bool unit_prefixes, float delta) {
  if (widths.empty() || widths.size() > kMostPrefixes || widths.size() != shares.size())
    throw std::invalid_argument(std::to_string(widths.size()) + " prefixes and " + std::to_string(shares.size()) +
                                " shares, expected 1 to " + std::to_string(kMostPrefixes) + " of each");
  Alignment of{matrix(student, rows, dim),
               matrix(teacher, rows, dim),
               type,
               metric,
               static_cast<int>(widths.size()),
               {},
               {},
               at<const float>(weights),
               unit_prefixes,
               delta};
  std::copy(widths.begin(), widths.end(), of.widths);
  std::copy(shares.begin(), shares.end(), of.shares);
  return of;
}

#ifndef LEAFKIT_EMULATED

// What this machine has, without an error where it has nothing.
py::dict state() {
  int driver = 0, runtime = 0, count = 0;
  py::dict out;
  const cudaError_t no_driver = cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t no_devices = cudaGetDeviceCount(&count);
  cudaGetLastError();  // forgotten: it was asked, not failed
  py::list devices;
  for (int device = 0; no_devices == cudaSuccess && device < count; ++device) {
    cudaDeviceProp of{};
    if (cudaGetDeviceProperties(&of, device) == cudaSuccess)
      devices.append(
          py::make_tuple(std::string(of.name), of.major, of.minor, static_cast<std::uint64_t>(of.totalGlobalMem)));
  }
  out["driver"] = no_driver == cudaSuccess ? driver : 0;
  out["runtime"] = runtime;
  out["error"] = no_devices == cudaSuccess ? "" : std::string(cudaGetErrorName(no_devices));
  out["devices"] = devices;
  out["architectures"] = LEAFKIT_CUDA_ARCHITECTURES;
  return out;
}

#endif

void bind(py::module_& m) {
  py::enum_<Type>(m, "Type", py::module_local())
      .value("float32", Type::float32)
      .value("bfloat16", Type::bfloat16)
      .value("float16", Type::float16)
      .value("int8", Type::int8)
      .value("binary", Type::binary);
  py::enum_<Metric>(m, "Metric", py::module_local())
      .value("squared_l2", Metric::squared_l2)
      .value("l2", Metric::l2)
      .value("cosine", Metric::cosine)
      .value("huber", Metric::huber);
  py::enum_<BatchLoss>(m, "BatchLoss", py::module_local())
      .value("relational", BatchLoss::relational)
      .value("listwise_kl", BatchLoss::listwise_kl)
      .value("contrastive", BatchLoss::contrastive);
  m.attr("most_prefixes") = kMostPrefixes;
  m.attr("most_results") = kMostResults;

  m.def("alignment_memory", &alignment_memory, py::arg("rows"));
  m.def(
      "alignment_loss",
      [](Address student, Address teacher, std::int64_t rows, std::int64_t dim, Type type, Metric metric,
         const std::vector<std::int64_t>& widths, const std::vector<float>& shares, Address weights, bool unit_prefixes,
         float delta, Address value, Address gradient, Address memory, Address stream) {
        const Alignment of =
            alignment_of(student, teacher, rows, dim, type, metric, widths, shares, weights, unit_prefixes, delta);
        const py::gil_scoped_release release;
        alignment_loss(of, at<float>(value), at<void>(gradient), at<void>(memory), at<void>(stream));
      },
      py::arg("student"), py::arg("teacher"), py::arg("rows"), py::arg("dim"), py::arg("type"), py::arg("metric"),
      py::arg("widths"), py::arg("shares"), py::arg("weights"), py::arg("unit_prefixes"), py::arg("delta"),
      py::arg("value"), py::arg("gradient"), py::arg("memory"), py::arg("stream"));

  py::class_<Batch>(m, "Batch", py::module_local())
      .def(py::init([](Address student, Address teacher, std::int64_t rows, std::int64_t dim, Type type, BatchLoss loss,
                       float temperature, bool exact) {
             return Batch{matrix(student, rows, dim), matrix(teacher, rows, dim), type, loss, temperature, exact};
           }),
           py::arg("student"), py::arg("teacher"), py::arg("rows"), py::arg("dim"), py::arg("type"), py::arg("loss"),
           py::arg("temperature"), py::arg("exact"));
  m.def("batch_memory", &batch_memory, py::arg("of"));
  m.def(
      "batch_loss",
      [](const Batch& of, Address value, Address gradient, Address memory, Address stream) {
        const py::gil_scoped_release release;
        batch_loss(of, at<float>(value), at<void>(gradient), at<void>(memory), at<void>(stream));
      },
      py::arg("of"), py::arg("value"), py::arg("gradient"), py::arg("memory"), py::arg("stream"));

  py::class_<Packed>(m, "Packed", py::module_local())
      .def(py::init(
               [](Address codes, std::int64_t count, std::int64_t dim, std::int64_t stride, Address scales, Type type) {
                 return Packed{at<const void>(codes), count, dim, stride, at<const float>(scales), type};
               }),
           py::arg("codes"), py::arg("count"), py::arg("dim"), py::arg("stride"), py::arg("scales"), py::arg("type"));
  m.def("packed_stride", &packed_stride, py::arg("type"), py::arg("dim"));
  m.def(
      "quantize",
      [](Address rows, std::int64_t count, std::int64_t dim, Type from, Type to, Address dim_scales, Address codes,
         Address scales, Address stream) {
        const py::gil_scoped_release release;
        quantize(matrix(rows, count, dim), from, to, at<const float>(dim_scales), at<void>(codes), at<float>(scales),
                 at<void>(stream));
      },
      py::arg("rows"), py::arg("count"), py::arg("dim"), py::arg("from_type"), py::arg("to_type"),
      py::arg("dim_scales"), py::arg("codes"), py::arg("scales"), py::arg("stream"));

  py::class_<Search>(m, "Search", py::module_local())
      .def(py::init([](const Packed& queries, const Packed& documents, std::int64_t k, Address allowed,
                       std::int64_t allowed_stride, Address exact_queries, bool matrix_unit, int parts) {
             return Search{queries,
                           documents,
                           k,
                           at<const std::uint32_t>(allowed),
                           allowed_stride,
                           at<const float>(exact_queries),
                           matrix_unit,
                           parts};
           }),
           py::arg("queries"), py::arg("documents"), py::arg("k"), py::arg("allowed"), py::arg("allowed_stride"),
           py::arg("exact_queries"), py::arg("matrix_unit"), py::arg("parts"));
  m.def("search_blocks", &search_blocks, py::arg("of"));
  m.def("search_memory", &search_memory, py::arg("of"));
  m.def(
      "search",
      [](const Search& of, Address scores, Address rows, Address memory, Address stream) {
        const py::gil_scoped_release release;
        search(of, at<float>(scores), at<std::int64_t>(rows), at<void>(memory), at<void>(stream));
      },
      py::arg("of"), py::arg("scores"), py::arg("rows"), py::arg("memory"), py::arg("stream"));
#ifdef LEAFKIT_EMULATED
  m.def("set_seed", &emulated::set_seed, py::arg("seed"));
#else
  m.def("state", &state);
#endif
}

}  // namespace
}  // namespace leafkit::cuda

#ifdef LEAFKIT_EMULATED
PYBIND11_MODULE(_C_emu, m) { leafkit::cuda::bind(m); }
#else
PYBIND11_MODULE(_C_cuda, m) { leafkit::cuda::bind(m); }
#endif
