// search/levels.h: one function a level.
#pragma once

#include "search/search.h"

namespace leafkit {

extern const ScoreBlock kScoreScalar;
#ifdef LEAFKIT_X86
extern const ScoreBlock kScoreAvx2;
extern const ScoreBlock kScoreAvx512;
#endif

}  // namespace leafkit
