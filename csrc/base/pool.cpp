#include "base/pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace leafkit {

void parallel(std::int64_t parts, int threads, const std::function<void(std::int64_t)>& work) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr first;
  std::mutex guard;
  const auto run = [&] {
    try {
      for (std::int64_t part = next++; part < parts; part = next++) work(part);
    } catch (...) {
      next = parts;
      const std::lock_guard<std::mutex> hold(guard);
      if (!first) first = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  const std::int64_t wanted = std::min<std::int64_t>(threads, parts);
  for (std::int64_t i = 1; i < wanted; ++i) others.emplace_back(run);
  run();
  for (std::thread& other : others) other.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace leafkit
