// LoRA: y += B (A x) for the rows of sequences that are read with an adapter.
#pragma once

#include <memory>
#include <vector>

#include "linear.h"

namespace byollm {

// What an adapter adds to a product whose columns several matrices share.
struct LowRank {
  struct Target {
    int column;  // where in the product its columns begin
    int first;   // where in the ranks of all targets its own begin
    Linear b;    // (columns, ranks)
  };

  Linear a;  // (ranks of all targets, in)
  std::vector<Target> targets;
};

struct Adapted : Linear {
  std::vector<std::unique_ptr<LowRank>> adapters;  // by slot; null, and beyond the last: none
};

// Neighbouring rows with one adapter.
struct Run {
  static constexpr int MOST = 48;  // rows, so that threads have something to share

  int slot, first, rows;
};

}  // namespace byollm
