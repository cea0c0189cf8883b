// LoRA: y += B (A x) for the rows of sequences that are read with an adapter.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "linear.h"

namespace byollm {

enum Target : int { Q, K, V, O, GATE, UPWARD, DOWNWARD, TARGETS };  // the matrices of a layer that adapters change

inline Target target_of(const std::string& name) {
  static const char* const NAMES[] = {"q", "k", "v", "o", "gate", "up", "down"};
  const auto found = std::find(std::begin(NAMES), std::end(NAMES), name);
  if (found == std::end(NAMES)) throw std::invalid_argument("adapters change no part called " + name);
  return Target(found - NAMES);
}

struct LowRank {
  Linear a, b;  // (rank, in), (out, rank)
};

using Adapter = std::array<std::unique_ptr<LowRank>, TARGETS>;  // in one layer; null: unchanged

// Where in the columns of a product the result of a target stands.
struct Place {
  Target target;
  int column;
};

// Neighbouring rows with one adapter.
struct Run {
  static constexpr int MOST = 48;  // rows, so that threads have something to share

  int slot, first, rows;
};

}  // namespace byollm
