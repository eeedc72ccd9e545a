// base/pool.h: the one thread pool.
#pragma once

#include <cstdint>
#include <functional>

namespace leafkit {

// Calls work(part) for every part in [0, parts), on at most `threads` threads, this one included. Parts are handed out
// in rising order. Any number of threads may call at once: each works on its own parts, and the pool's threads help
// whom they find. The first exception is thrown here after all have ended; parts not begun by then are left out.
//
// The pool's threads are made on first need and wait between calls. A forked child starts with an empty pool of its
// own. Calls from inside `work` are answered by the calling thread alone if the pool is busy: they cannot deadlock.
void parallel(std::int64_t parts, int threads, const std::function<void(std::int64_t)>& work);

}  // namespace leafkit
