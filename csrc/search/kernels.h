// search/kernels.h: the tiles of a level, with what this very CPU can do better.
#pragma once

#include "base/cpu.h"
#include "search/tiles.h"

namespace leafkit {

Kernels kernels_of(Level level);

}  // namespace leafkit
