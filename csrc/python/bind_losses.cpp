#include <pybind11/stl.h>

#include <algorithm>

#include "losses/batch.h"
#include "losses/losses.h"
#include "losses/relative.h"
#include "python/bind.h"

namespace leafkit {
namespace {

struct Sides {
  Rows<const float> student, teacher;
};

Sides sides_of(const Matrix& student, const Matrix& teacher) {
  const Sides out{rows_of(student, "student"), rows_of(teacher, "teacher")};
  const auto &s = out.student, &t = out.teacher;
  if (s.count != t.count || s.dim != t.dim || s.count == 0 || s.dim == 0)
    throw std::invalid_argument("student has shape (" + std::to_string(s.count) + ", " + std::to_string(s.dim) +
                                "), teacher has shape (" + std::to_string(t.count) + ", " + std::to_string(t.dim) +
                                "): expected one shape of at least 1 row and 1 dim");
  return out;
}

Matrix gradient_of(const Sides& sides) {
  return Matrix({static_cast<py::ssize_t>(sides.student.count), static_cast<py::ssize_t>(sides.student.dim)});
}

py::tuple alignment(const Matrix& student, const Matrix& teacher, const std::string& metric,
                    const std::vector<std::int64_t>& widths, const std::vector<double>& shares,
                    const std::optional<py::array_t<double>>& weights, bool unit_prefixes, float delta, int threads,
                    const std::string& level) {
  const Sides sides = sides_of(student, teacher);
  const Level chosen = level_named(level);
  Alignment of{sides.student, sides.teacher, metric_named(metric), widths, shares, nullptr, unit_prefixes, delta};
  if (widths.empty() || widths.size() != shares.size() || widths.back() > sides.student.dim || widths[0] < 1 ||
      !std::is_sorted(widths.begin(), widths.end()))
    throw std::invalid_argument("expected rising widths up to " + std::to_string(sides.student.dim) +
                                " and a share for each");
  if (weights.has_value()) {
    if (weights->ndim() != 1 || weights->shape(0) != sides.student.count)
      throw std::invalid_argument("expected a weight for each of " + std::to_string(sides.student.count) + " rows");
    of.weights = weights->data();
  }
  Matrix gradient = gradient_of(sides);
  float* out = gradient.mutable_data();
  double value = 0;
  {
    const py::gil_scoped_release release;
    value = alignment_loss(of, thread_count(threads), chosen, out);
  }
  return py::make_tuple(value, gradient);
}

template <class Loss>
py::tuple of_batch(const Matrix& student, const Matrix& teacher, bool exact, int threads, const std::string& level,
                   const Loss& loss) {
  const Sides sides = sides_of(student, teacher);
  Batch batch{sides.student, sides.teacher, thread_count(threads), level_named(level), exact, nullptr};
  Matrix gradient = gradient_of(sides);
  batch.gradient = gradient.mutable_data();
  double value = 0;
  {
    const py::gil_scoped_release release;
    value = loss(batch);
  }
  return py::make_tuple(value, gradient);
}

void require_temperature(double temperature) {
  if (!(temperature > 0)) throw std::invalid_argument("temperature " + std::to_string(temperature) + ": expected > 0");
}

}  // namespace

void bind_losses(py::module_& module) {
  module.def("alignment_loss", &alignment, py::arg("student").noconvert(), py::arg("teacher").noconvert(),
             py::arg("metric"), py::arg("widths"), py::arg("shares"), py::arg("weights"), py::arg("unit_prefixes"),
             py::arg("delta"), py::arg("threads") = 0, py::arg("level") = "");
  module.def(
      "relational_loss",
      [](const Matrix& student, const Matrix& teacher, bool exact, int threads, const std::string& level) {
        return of_batch(student, teacher, exact, threads, level, relational_loss);
      },
      py::arg("student").noconvert(), py::arg("teacher").noconvert(), py::arg("exact") = false, py::arg("threads") = 0,
      py::arg("level") = "");
  const auto with_temperature = [&](const char* name, double (*loss)(const Batch&, double)) {
    module.def(
        name,
        [loss](const Matrix& student, const Matrix& teacher, double temperature, bool exact, int threads,
               const std::string& level) {
          require_temperature(temperature);
          return of_batch(student, teacher, exact, threads, level,
                          [&](const Batch& batch) { return loss(batch, temperature); });
        },
        py::arg("student").noconvert(), py::arg("teacher").noconvert(), py::arg("temperature"),
        py::arg("exact") = false, py::arg("threads") = 0, py::arg("level") = "");
  };
  module.def(
      "relative_hinge",
      [](const py::array_t<float, py::array::c_style>& student, const py::array_t<float, py::array::c_style>& teacher,
         double margin) {
        if (student.ndim() != 1 || teacher.ndim() != 1 || student.size() != teacher.size())
          throw std::invalid_argument("expected as many scores of the student as of the teacher");
        const std::vector<float> s(student.data(), student.data() + student.size()),
            t(teacher.data(), teacher.data() + teacher.size());
        Relative found;
        {
          const py::gil_scoped_release release;
          found = relative_hinge(s, t, margin);
        }
        return py::make_tuple(found.value,
                              py::array_t<double>(static_cast<py::ssize_t>(found.slopes.size()), found.slopes.data()));
      },
      py::arg("student"), py::arg("teacher"), py::arg("margin"));
  with_temperature("listwise_kl_loss", &listwise_kl_loss);
  with_temperature("contrastive_loss", &contrastive_loss);
}

}  // namespace leafkit
