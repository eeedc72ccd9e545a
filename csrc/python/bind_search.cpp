#include "python/bind.h"
#include "search/search.h"

namespace leafkit {

static py::tuple search(const Matrix& queries, const Matrix& documents, std::int64_t k, int threads,
                        const std::string& level) {
  const Rows<const float> q = rows_of(queries, "queries"), d = rows_of(documents, "documents");
  if (q.dim != d.dim)
    throw std::invalid_argument("queries have dim " + std::to_string(q.dim) + ", documents have dim " +
                                std::to_string(d.dim));
  if (k < 1) throw std::invalid_argument("k must be at least 1, got " + std::to_string(k));
  const Level chosen = level_named(level);
  const py::ssize_t found = std::min<std::int64_t>(k, d.count);
  py::array_t<float> scores({static_cast<py::ssize_t>(q.count), found});
  py::array_t<std::int64_t> rows({static_cast<py::ssize_t>(q.count), found});
  float* scores_out = scores.mutable_data();
  std::int64_t* rows_out = rows.mutable_data();
  {
    Interrupt interrupt;
    const py::gil_scoped_release release;
    search_topk(q, d, k, thread_count(threads), chosen, scores_out, rows_out, [&] { return interrupt.wanted(); });
  }
  return py::make_tuple(scores, rows);
}

void bind_search(py::module_& module) {
  module.def("search_topk", &search, py::arg("queries").noconvert(), py::arg("documents").noconvert(), py::arg("k"),
             py::arg("threads") = 0, py::arg("level") = "");
}

}  // namespace leafkit
