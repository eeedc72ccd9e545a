// losses/batch.h: losses that compare the texts of a batch with one another, without ever holding all pairs.
#pragma once

#include "base/cpu.h"
#include "base/views.h"

namespace leafkit {

// What all of them take: B rows of the student's and the teacher's vectors, adjacent columns, one width. `exact` forms
// products in float32 where the level would in bfloat16. The gradient in the student is written to (B, D), adjacent
// rows. Results do not depend on the number of threads. A row that is not finite is a std::invalid_argument.
struct Batch {
  Rows<const float> student, teacher;
  int threads;
  Level level;
  bool exact;
  float* gradient;
};

// Mean over all pairs (i, j) of (s_i.s_j - t_i.t_j)^2.
double relational_loss(const Batch& batch);
// Mean over rows of the divergence KL(P_i || Q_i); P and Q are the softmax over j != i of t_i.t_j / temperature and
// s_i.s_j / temperature. At least 2 rows.
double listwise_kl_loss(const Batch& batch, double temperature);
// Mean over rows of -log of the softmax over j of s_i.t_j / temperature at j = i (InfoNCE).
double contrastive_loss(const Batch& batch, double temperature);

}  // namespace leafkit
