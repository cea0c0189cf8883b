// A decoder of any supported family: its weights, and the room that a step needs.
#pragma once

#include <atomic>

#include "adapters.h"
#include "attention.h"
#include "interface.h"
#include "linear.h"
#include "team.h"

namespace byollm {

struct Normalisation {
  std::vector<float> weight, bias;
};

struct Layer {
  Adapted qkv, o, up, down;  // `up` holds the gate first where there is one

  Adapted& named(const std::string& name) { return name == "qkv" ? qkv : name == "o" ? o : name == "up" ? up : down; }

  Normalisation before, after;
  std::vector<float> q_norm, k_norm;  // (head_dim,) for all heads or (heads, head_dim)
  int window = 0;                     // keys a position sees; 0: all
  void *keys = nullptr, *values = nullptr;  // of the batch under way
};

struct Table {  // of token or position embeddings, owned by the caller
  const void* rows = nullptr;
  Precision precision = Precision::float32;  // or bfloat16 or int8
  const Half* scales = nullptr;              // of int8: (rows, groups)
  int group = 0;
};

enum Part : int { EMBED, NORM, QKV, ROTARY, ATTENTION, OUTPUT, UP, ACTIVATION, DOWN, HEAD, PARTS };

class Model {
 public:
  Model(const Shape& shape, int threads) : shape(shape), layers(shape.layers), team_(threads), rounded_(threads), scratch_(threads) {}

  const Shape shape;
  std::vector<Layer> layers;
  Linear head;
  Normalisation last;
  Table tokens, positions;
  std::vector<float> cos, sin;  // (positions, rotary_pairs)
  double seconds[PARTS] = {};

  void forward(const Batch& batch);

  Arena weights{size_t(64) << 20};

  // Take out of a slot what it holds of any adapter.
  void vacate(int slot) {
    if (slot < 0) throw std::invalid_argument("slots are counted from 0");
    for (auto& layer : layers)
      for (Adapted* product : {&layer.qkv, &layer.o, &layer.up, &layer.down})
        if (slot < int(product->adapters.size())) product->adapters[slot].reset();
    if (slot >= int(slots_.size())) slots_.resize(slot + 1);
    slots_[slot] = std::make_unique<Arena>(0);
  }

  // Put A (rank, in) of what an adapter adds to a product into a slot that was vacated.
  void adapt(int slot, Adapted& product, const float* a, int rank, Precision precision) {
    auto added = std::make_unique<LowRank>();
    added->a.pack(*slots_.at(slot), a, rank, product.in, nullptr, precision);
    rank_ = std::max(rank_, rank);
    if (slot >= int(product.adapters.size())) product.adapters.resize(slot + 1);
    product.adapters[slot] = std::move(added);
  }

  // Put B (out, rank) beside it: columns from `column` on are added to, by ranks from `first` on.
  void adapt(int slot, Adapted& product, int column, int first, const float* b, int out, int rank, Precision precision) {
    auto& added = product.adapters.at(slot);
    if (added == nullptr || column + out > product.out || first + rank > added->a.out)
      throw std::invalid_argument("B fits neither A nor the product");
    auto& target = added->targets.emplace_back();
    target.column = column, target.first = first;
    target.b.pack(*slots_.at(slot), b, out, rank, nullptr, precision);
  }

 private:
  struct Item {  // queries of one sequence and one key head
    int span, head, first;
  };

  struct Step;

  void prepare(const Batch& batch) {
    const size_t n = batch.tokens;
    const int kv_width = shape.kv_heads * shape.head_dim, width = shape.heads * shape.head_dim;
    x_.at_least(n * shape.hidden);
    normed_.at_least(n * shape.hidden);
    qkv_.at_least(n * (width + 2 * kv_width));
    attended_.at_least(n * width);
    up_.at_least(n * shape.inner * (shape.gated ? 2 : 1));
    inner_.at_least(n * shape.inner);
    chosen_.at_least(size_t(batch.outputs) * shape.hidden);
    for (int i = 0; i < shape.layers; i++) layers[i].keys = batch.keys[i], layers[i].values = batch.values[i];
    items_.clear();
    int longest = 0;
    const int group = shape.heads / shape.kv_heads;
    for (int span = 0; span < batch.spans; span++) {
      int rows = batch.first_rows[span + 1] - batch.first_rows[span];
      longest = std::max(longest, batch.positions[batch.first_rows[span + 1] - 1] + 1);
      for (int head = 0; head < shape.kv_heads; head++)
        for (int first = 0; first < rows * group; first += QUERIES) items_.push_back({span, head, first});
    }
    for (auto& scratch : scratch_) scratch.at_least(size_t(QUERIES) * (longest + 2 * BLOCK));
    runs_.clear();
    for (int span = 0; batch.slots != nullptr && span < batch.spans; span++) add_run(batch, span);
    lowered_.at_least(runs_.empty() ? 0 : n * rank_);
    const size_t phases = size_t(shape.layers + 1) * PARTS * (runs_.empty() ? 1 : 2);
    if (claims_.size() < phases) claims_ = std::vector<std::atomic<int>>(phases);
    for (auto& claim : claims_) claim.store(0, std::memory_order_relaxed);
  }

  void add_run(const Batch& batch, int span) {
    const int slot = batch.slots[span];
    for (int row = batch.first_rows[span]; slot >= 0 && row < batch.first_rows[span + 1]; row++) {
      Run* last = runs_.empty() ? nullptr : &runs_.back();
      const bool goes_on = last != nullptr && last->slot == slot && last->first + last->rows == row;
      if (goes_on && last->rows < Run::MOST) last->rows++;
      else runs_.push_back({slot, row, 1});
    }
  }

  // Threads wait for each other after every part. In a step of a fraction of a millisecond that eats most of what
  // they gain, and a core that others use, the server for one, makes them lose.
  bool worth_sharing(const Batch& batch) const {
    constexpr double LEAST = 4e6;  // multiplications with weights
    double weights = 0;
    for (const auto& layer : layers)
      for (const Linear* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down}) weights += double(linear->in) * linear->out;
    return batch.tokens * weights + batch.outputs * double(head.in) * head.out >= LEAST;
  }

  Team team_;
  std::vector<Rounded> rounded_;         // of each thread
  std::vector<Memory<float>> scratch_;   // of each thread
  std::vector<std::atomic<int>> claims_;  // of each phase: how much of it is taken
  std::vector<Item> items_;
  std::vector<Run> runs_;
  std::vector<std::unique_ptr<Arena>> slots_;  // what adapters stand in
  int rank_ = 0;  // the most of a product's adapter so far
  Memory<float> x_, normed_, qkv_, attended_, up_, inner_, chosen_;
  Memory<float> lowered_;  // A x of adapters: (tokens, rank_)
};

}  // namespace byollm
