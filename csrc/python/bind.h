// python/bind.h: what every binding shares: arrays as views, threads, Ctrl-C.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/views.h"

namespace leafkit {

namespace py = pybind11;
using Matrix = py::array_t<float>;

// A view of a matrix with adjacent columns; everything else was copied or refused above us.
template <class T>
Rows<const T> rows_of(const py::array_t<T>& matrix, const char* name) {
  if (matrix.ndim() != 2)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(matrix.ndim()) +
                                " dimensions, expected 2");
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  const bool adjacent = matrix.shape(1) <= 1 || matrix.strides(1) == item || matrix.size() == 0;
  if (!adjacent || matrix.strides(0) % item != 0 || matrix.strides(0) < 0)
    throw std::invalid_argument(std::string(name) + " needs adjacent columns and rising rows");
  return {matrix.data(), matrix.shape(0), matrix.shape(1), matrix.strides(0) / item};
}

inline int thread_count(int wanted) {
  return wanted > 0 ? wanted : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// Looks for Ctrl-C at most every 50 ms, from the thread that holds the call, and throws there when Python wants the
// call to end; the other threads are told that the answer is not wanted any more.
class Interrupt {
 public:
  Interrupt() : caller_(std::this_thread::get_id()), next_(std::chrono::steady_clock::now() + kEvery) {}
  bool wanted() {
    if (std::this_thread::get_id() == caller_ && std::chrono::steady_clock::now() >= next_) {
      const py::gil_scoped_acquire hold;
      if (PyErr_CheckSignals() != 0) {
        ended_ = true;
        throw py::error_already_set();
      }
      next_ = std::chrono::steady_clock::now() + kEvery;
    }
    return !ended_;
  }

 private:
  static constexpr std::chrono::milliseconds kEvery{50};
  std::thread::id caller_;
  std::chrono::steady_clock::time_point next_;
  std::atomic<bool> ended_{false};
};

void bind_search(py::module_& module);
void bind_losses(py::module_& module);
void bind_encoder(py::module_& module);

}  // namespace leafkit
