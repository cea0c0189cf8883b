// A decoder of any supported family over a flat batch of tokens of many sequences, in float32 between weights.
#pragma once

#include <chrono>
#include <memory>

#include "attention.h"
#include "interface.h"
#include "linear.h"
#include "team.h"

namespace byollm {

struct Normalisation {
  std::vector<float> weight, bias;
};

struct Layer {
  Linear qkv, o, up, down;  // `up` holds the gate first where there is one
  Normalisation before, after;
  std::vector<float> q_norm, k_norm;  // (head_dim,) for all heads or (heads, head_dim)
  int window = 0;                     // keys a position sees; 0: all
  void *keys = nullptr, *values = nullptr;  // of the batch under way
};

struct Table {  // of token or position embeddings, owned by the caller
  const void* rows = nullptr;
  bool half = false;
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
    const size_t phases = size_t(shape.layers) * PARTS + PARTS;
    if (claims_.size() < phases) claims_ = std::vector<std::atomic<int>>(phases);
    for (auto& claim : claims_) claim.store(0, std::memory_order_relaxed);
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
  Memory<float> x_, normed_, qkv_, attended_, up_, inner_, chosen_;
};

// What one thread does of a step.
struct Model::Step {
  Model& model;
  const Batch& batch;
  const int number, threads;
  int phase = 0;
  std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();

  const Shape& shape = model.shape;
  const int width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  const int qkv_width = width + 2 * kv_width, group = shape.heads / shape.kv_heads;
  float *const x = model.x_.data, *const normed = model.normed_.data, *const qkv = model.qkv_.data;

  void run() {
    const int n = batch.tokens;
    part(EMBED, n, 8, [&](int row) { embed(row); });
    for (auto& layer : model.layers) {
      part(NORM, n, 8, [&](int row) { norm(layer.before, x + size_t(row) * shape.hidden, out(normed, row, shape.hidden)); });
      multiply(QKV, layer.qkv, normed, n, qkv, qkv_width, false);
      part(ROTARY, n, 4, [&](int row) { place(layer, row); });
      part(ATTENTION, int(model.items_.size()), 1, [&](int item) {
        if (shape.half_cache) attend_item<Half>(layer, item);
        else attend_item<float>(layer, item);
      });
      multiply(OUTPUT, layer.o, model.attended_.data, n, x, shape.hidden, true);
      if (!shape.parallel)
        part(NORM, n, 8, [&](int row) { norm(layer.after, x + size_t(row) * shape.hidden, out(normed, row, shape.hidden)); });
      multiply(UP, layer.up, normed, n, model.up_.data, shape.inner * (shape.gated ? 2 : 1), false);
      part(ACTIVATION, n, 4, [&](int row) { activate(row); });
      multiply(DOWN, layer.down, model.inner_.data, n, x, shape.hidden, true);
    }
    if (batch.hidden != nullptr)
      part(NORM, n, 8, [&](int row) { norm(model.last, x + size_t(row) * shape.hidden, out(batch.hidden, row, shape.hidden)); });
    if (batch.outputs > 0) {
      part(NORM, batch.outputs, 8, [&](int i) {
        norm(model.last, x + size_t(batch.output_rows[i]) * shape.hidden, out(model.chosen_.data, i, shape.hidden));
      });
      multiply(HEAD, model.head, model.chosen_.data, batch.outputs, batch.scores, shape.vocab, false);
    }
  }

  static float* out(float* rows, int row, int size) { return rows + size_t(row) * size; }

  // Share out `count` pieces of work, `grain` at a time, and wait until all are done.
  template <class F>
  void part(Part name, int count, int grain, F f) {
    auto& claim = model.claims_[phase++];
    for (int first; (first = claim.fetch_add(grain, std::memory_order_relaxed)) < count;)
      for (int i = first; i < std::min(count, first + grain); i++) f(i);
    finish(name);
  }

  void finish(Part name) {
    if (threads > 1) model.team_.barrier();
    if (number != 0) return;
    auto now = std::chrono::steady_clock::now();
    model.seconds[name] += std::chrono::duration<double>(now - since).count();
    since = now;
  }

  void multiply(Part name, const Linear& linear, const float* from, int rows, float* to, int stride, bool add) {
    auto& rounded = model.rounded_[number];
    linear.round(from, rows, rounded);
    Product product{linear, from, size_t(linear.in), rows, to, size_t(stride), add, rounded};
    auto& claim = model.claims_[phase++];
    const int grain = threads == 1 ? linear.panels : std::max(1, (linear.panels + 4 * threads - 1) / (4 * threads));
    for (int first; (first = claim.fetch_add(grain, std::memory_order_relaxed)) < linear.panels;)
      product.run(first, std::min(linear.panels, first + grain));
    finish(name);
  }

  void embed(int row) {
    float* to = out(x, row, shape.hidden);
    look_up(model.tokens, batch.ids[row], [&](int i, float value) { to[i] = value; });
    if (model.positions.rows != nullptr)
      look_up(model.positions, batch.positions[row], [&](int i, float value) { to[i] += value; });
  }

  template <class F>
  void look_up(const Table& table, int row, F f) {
    const size_t start = size_t(row) * shape.hidden;
    if (table.half) {
      for (int i = 0; i < shape.hidden; i++) f(i, widen(static_cast<const Half*>(table.rows)[start + i]));
    } else {
      for (int i = 0; i < shape.hidden; i++) f(i, static_cast<const float*>(table.rows)[start + i]);
    }
  }

  void norm(const Normalisation& norm, const float* from, float* to) {
    normalise(from, shape.hidden, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), to);
  }

  void normalise(const float* from, int size, const float* weight, const float* bias, float* to) {
    float mean = 0;
    if (shape.layer_norm) {
      Floats total = zeros();
      each(from, size, [&](int, Floats v, int) { total = total + v; });
      mean = sum(total) / size;
    }
    Floats squares = zeros();
    int whole = size / W * W;
    for (int i = 0; i < whole; i += W) {
      Floats v = read(from + i) - spread(mean);
      squares = fma(v, v, squares);
    }
    float total = sum(squares);
    for (int i = whole; i < size; i++) total += (from[i] - mean) * (from[i] - mean);
    const float scale = 1 / std::sqrt(total / size + shape.eps);
    for (int i = 0; i < size; i++) to[i] = (from[i] - mean) * scale * weight[i] + (bias == nullptr ? 0 : bias[i]);
  }

  // Normalise and rotate a row's queries and keys, and put its keys and values where they are kept.
  void place(const Layer& layer, int row) {
    float* q = out(qkv, row, qkv_width);
    float* k = q + width;
    turn(q, shape.heads, layer.q_norm, batch.positions[row]);
    turn(k, shape.kv_heads, layer.k_norm, batch.positions[row]);
    const float scale = 1 / std::sqrt(float(shape.head_dim));
    for (int i = 0; i < width; i++) q[i] *= scale;
    const int position = batch.positions[row];
    const int block = batch.tables[batch.first_ids[span_of(row)] + position / BLOCK];
    for (int head = 0; head < shape.kv_heads; head++) {
      const float *key = k + head * shape.head_dim, *value = key + kv_width;
      if (shape.half_cache) pages<Half>(layer).store(block, head, position % BLOCK, key, value);
      else pages<float>(layer).store(block, head, position % BLOCK, key, value);
    }
  }

  int span_of(int row) const {
    return int(std::upper_bound(batch.first_rows, batch.first_rows + batch.spans + 1, row) - batch.first_rows) - 1;
  }

  void turn(float* heads, int count, const std::vector<float>& weight, int position) {
    const int size = shape.head_dim, pairs = shape.rotary_pairs;
    const float *cos = model.cos.data() + size_t(position) * pairs, *sin = model.sin.data() + size_t(position) * pairs;
    for (int head = 0; head < count; head++) {
      float* v = heads + head * size;
      if (!weight.empty()) normalise(v, size, weight.data() + (int(weight.size()) > size ? head * size : 0), nullptr, v);
      for (int i = 0; i < pairs; i++) {
        float first = v[i], second = v[i + pairs];
        v[i] = first * cos[i] - second * sin[i];
        v[i + pairs] = second * cos[i] + first * sin[i];
      }
    }
  }

  template <class Number>
  Pages<Number> pages(const Layer& layer) const {
    return {static_cast<Number*>(layer.keys), static_cast<Number*>(layer.values), shape.kv_heads, shape.head_dim};
  }

  template <class Number>
  void attend_item(const Layer& layer, int index) {
    const Item& item = model.items_[index];
    const int first_row = batch.first_rows[item.span], rows = batch.first_rows[item.span + 1] - first_row;
    const int count = std::min(QUERIES, rows * group - item.first);
    Query queries[QUERIES];
    for (int i = 0; i < count; i++) {
      const int row = first_row + (item.first + i) / group, head = item.head * group + (item.first + i) % group;
      const int seen = batch.positions[row] + 1;
      queries[i] = {
          qkv + size_t(row) * qkv_width + head * shape.head_dim,
          layer.window == 0 ? 0 : std::max(0, seen - layer.window),
          seen,
          model.attended_.data + size_t(row) * width + head * shape.head_dim,
      };
    }
    const int* table = batch.tables + batch.first_ids[item.span];
    attend<Number>(count, queries, pages<Number>(layer), item.head, table, model.scratch_[number].data);
  }

  void activate(int row) {
    const int size = shape.inner;
    float* to = out(model.inner_.data, row, size);
    if (shape.gated) {
      const float *gate = out(model.up_.data, row, 2 * size), *up = gate + size;
      each(gate, size, [&](int i, Floats v, int count) { put(to + i, v / (spread(1) + exponential(zeros() - v)), count); });
      for (int i = 0; i < size; i++) to[i] *= up[i];
    } else {
      each(out(model.up_.data, row, size), size, [&](int i, Floats v, int count) {
        Floats u = spread(0.7978845608f) * fma(spread(0.044715f) * v * v, v, v);
        Floats e = exponential(u + u);  // tanh(u) = 1 - 2 / (exp(2 u) + 1)
        put(to + i, v - v / (e + spread(1)), count);
      });
    }
  }
};

inline void Model::forward(const Batch& batch) {
  prepare(batch);
  if (worth_sharing(batch)) {
    team_.run([&](int number) { Step{*this, batch, number, team_.size()}.run(); });
  } else {
    Step{*this, batch, 0, 1}.run();
  }
}

}  // namespace byollm
