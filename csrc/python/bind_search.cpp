#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "python/bind.h"
#include "search/kernels.h"
#include "search/search.h"

namespace leafkit {

static Type type_named(const std::string& name) {
  if (name == "float32") return Type::float32;
  if (name == "bfloat16") return Type::bfloat16;
  if (name == "float16") return Type::float16;
  if (name == "int8") return Type::int8;
  if (name == "binary") return Type::binary;
  throw std::invalid_argument("type \"" + name + "\": expected float32, bfloat16, float16, int8 or binary");
}

static Answer answer_named(const std::string& name) {
  if (name == "own") return Answer::own;
  if (name == "exact") return Answer::exact;
  if (name == "rescored") return Answer::rescored;
  throw std::invalid_argument("answer \"" + name + "\": expected own, exact or rescored");
}

using HalfMatrix = py::array_t<std::uint16_t>;

static Halves halves_of(const std::optional<HalfMatrix>& halves, const std::string& type) {
  if (!halves) return {{nullptr, 0, 0, 0}, Type::bfloat16};
  return {rows_of(*halves, "halves"), type_named(type)};
}

static std::shared_ptr<Packed> pack_documents(const std::optional<Matrix>& documents, const std::string& type,
                                              const std::optional<py::array_t<float>>& dim_scale, int threads,
                                              const std::optional<HalfMatrix>& halves, const std::string& halves_type,
                                              const std::string& level) {
  if (!documents && !halves) throw std::invalid_argument("there are no documents");
  const Halves narrow = halves_of(halves, halves_type);
  const Rows<const float> rows = documents
                                     ? rows_of(*documents, "documents")
                                     : Rows<const float>{nullptr, narrow.rows.count, narrow.rows.dim, narrow.rows.dim};
  if (dim_scale && (dim_scale->ndim() != 1 || dim_scale->shape(0) != rows.dim))
    throw std::invalid_argument("there are " + std::to_string(dim_scale->size()) + " scales, documents have dim " +
                                std::to_string(rows.dim));
  const float* scales = dim_scale ? dim_scale->data() : nullptr;
  const Type wanted = type_named(type);
  const Kernels kernels = kernels_of(level_named(level));
  const py::gil_scoped_release release;
  return std::make_shared<Packed>(pack(rows, narrow, wanted, scales, kernels, thread_count(threads)));
}

static py::tuple search(const Matrix& queries, const std::optional<Matrix>& documents,
                        const std::shared_ptr<Packed>& packed, std::int64_t k, const std::string& answer,
                        std::int64_t overfetch, const std::optional<py::array_t<std::uint64_t>>& allowed, int threads,
                        const std::optional<HalfMatrix>& halves, const std::string& halves_type,
                        const std::string& level) {
  const Rows<const float> q = rows_of(queries, "queries");
  Documents both{{nullptr, 0, q.dim, 0}, packed.get(), halves_of(halves, halves_type)};
  if (documents) both.rows = rows_of(*documents, "documents");
  const Request request{k, answer_named(answer), overfetch, {}, thread_count(threads), level_named(level)};
  const bool enough = documents || (packed != nullptr &&
                                    (request.answer == Answer::own || (halves && request.answer == Answer::rescored)));
  if (!enough) throw std::invalid_argument("rows are needed for this answer");
  const std::int64_t count = packed ? packed->count : both.rows.count, dim = packed ? packed->dim : both.rows.dim;
  if (q.dim != dim || both.rows.dim != dim)
    throw std::invalid_argument("queries have dim " + std::to_string(q.dim) + ", documents have dim " +
                                std::to_string(dim));
  const std::int64_t rows_there = documents ? both.rows.count : halves ? both.halves.rows.count : count;
  if (rows_there != count || (halves && both.halves.rows.dim != dim))
    throw std::invalid_argument("there are " + std::to_string(rows_there) + " rows, " + std::to_string(count) +
                                " of dim " + std::to_string(dim) + " are packed");
  if (k < 1 || overfetch < 1)
    throw std::invalid_argument("k must be at least 1, got " + std::to_string(std::min(k, overfetch)));
  Request with_filter = request;
  if (allowed) {
    const std::int64_t words = (count + 63) / 64;
    if (allowed->ndim() != 2 || allowed->shape(1) != words || (allowed->shape(0) != 1 && allowed->shape(0) != q.count))
      throw std::invalid_argument("allowed needs " + std::to_string(words) + " words a row");
    with_filter.allowed = {allowed->data(), allowed->shape(0) == 1 ? 0 : words};
  }
  const py::ssize_t found = std::min<std::int64_t>(k, count);
  py::array_t<float> scores({static_cast<py::ssize_t>(q.count), found});
  py::array_t<std::int64_t> rows({static_cast<py::ssize_t>(q.count), found});
  float* scores_out = scores.mutable_data();
  std::int64_t* rows_out = rows.mutable_data();
  {
    Interrupt interrupt;
    const py::gil_scoped_release release;
    search_topk(q, both, with_filter, scores_out, rows_out, [&] { return interrupt.wanted(); });
  }
  return py::make_tuple(scores, rows);
}

void bind_search(py::module_& module) {
  py::class_<Packed, std::shared_ptr<Packed>>(module, "Packed")
      .def_readonly("count", &Packed::count)
      .def_readonly("dim", &Packed::dim)
      .def_property_readonly("nbytes", &Packed::bytes);
  module.def("pack_documents", &pack_documents, py::arg("documents").noconvert(), py::arg("type"),
             py::arg("dim_scale") = py::none(), py::arg("threads") = 0, py::arg("halves") = py::none(),
             py::arg("halves_type") = "bfloat16", py::arg("level") = "");
  module.def("search_topk", &search, py::arg("queries").noconvert(), py::arg("documents").noconvert(),
             py::arg("packed").none(true), py::arg("k"), py::arg("answer"), py::arg("overfetch") = 1,
             py::arg("allowed") = py::none(), py::arg("threads") = 0, py::arg("halves") = py::none(),
             py::arg("halves_type") = "bfloat16", py::arg("level") = "");
}

}  // namespace leafkit
