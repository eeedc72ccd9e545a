#include <pybind11/stl.h>

#include "base/cpu.h"
#include "python/bind.h"

PYBIND11_MODULE(_C, module) {
  using namespace leafkit;
  module.doc() = "Native kernels of leafkit. The public face is leafkit.ops.";
  module.def("levels", [] {
    std::vector<std::string> names;
    for (const Level level : levels()) names.emplace_back(name_of(level));
    return names;
  });
  module.def("default_level", [] { return std::string(name_of(level_named(""))); });
  module.def("cpu_features", &cpu_features);
  bind_search(module);
  bind_losses(module);
  bind_encoder(module);
}
