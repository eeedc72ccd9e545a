// base/pool.h: parallel work of one call.
#pragma once

#include <cstdint>
#include <functional>

namespace leafkit {

// Calls work(part) for every part in [0, parts), on at most `threads` threads, this one included. Threads live as long
// as the call, so there is nothing that a forked child could miss; starting one costs about 20 us, and a call that is
// shorter than that should ask for one thread. The first exception is thrown here after all have ended.
void parallel(std::int64_t parts, int threads, const std::function<void(std::int64_t)>& work);

}  // namespace leafkit
