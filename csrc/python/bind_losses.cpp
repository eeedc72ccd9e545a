#include "losses/losses.h"
#include "python/bind.h"

namespace leafkit {

static py::tuple loss(const Matrix& student, const Matrix& teacher, const std::string& metric, int threads,
                      const std::string& level) {
  const Rows<const float> s = rows_of(student, "student"), t = rows_of(teacher, "teacher");
  if (s.count != t.count || s.dim != t.dim || s.count == 0)
    throw std::invalid_argument("student has shape (" + std::to_string(s.count) + ", " + std::to_string(s.dim) +
                                "), teacher has shape (" + std::to_string(t.count) + ", " + std::to_string(t.dim) +
                                "): expected one shape of at least 1 row");
  const Level chosen = level_named(level);
  const Metric chosen_metric = metric_named(metric);
  py::array_t<float> gradient({static_cast<py::ssize_t>(s.count), static_cast<py::ssize_t>(s.dim)});
  float* out = gradient.mutable_data();
  double value = 0;
  {
    const py::gil_scoped_release release;
    value = alignment_loss(s, t, chosen_metric, thread_count(threads), chosen, out);
  }
  return py::make_tuple(value, gradient);
}

void bind_losses(py::module_& module) {
  module.def("alignment_loss", &loss, py::arg("student").noconvert(), py::arg("teacher").noconvert(), py::arg("metric"),
             py::arg("threads") = 0, py::arg("level") = "");
}

}  // namespace leafkit
