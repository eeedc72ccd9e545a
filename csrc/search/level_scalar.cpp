// The definition, in the order one would say it. Read, never tuned.
#include "search/levels.h"
#include "search/scan.h"

namespace leafkit {
namespace {

struct Scalar {
  static constexpr int kQueries = 1, kDocuments = 1;
  template <int Q, int D>
  static void scores(const float* query, std::int64_t, const float* document, std::int64_t, std::int64_t dim,
                     float* out, std::int64_t) {
    float sum = 0;
    for (std::int64_t i = 0; i < dim; ++i) sum += query[i] * document[i];
    *out = sum;
  }
};

}  // namespace

const ScoreBlock kScoreScalar = &score_block<Scalar>;

}  // namespace leafkit
