// A step of a decoder: a flat batch of tokens of many sequences, in float32 between weights.
#pragma once

#include <chrono>

#include "decoder.h"

namespace byollm {

// What one thread does of a step.
struct Model::Step {
  Model& model;
  const Batch& batch;
  const int number, threads;
  int phase = 0;
  std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();

  const Shape& shape = model.shape;
  const int width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  const int qkv_width = width + 2 * kv_width, up_width = shape.inner * (shape.gated ? 2 : 1);
  const int group = shape.heads / shape.kv_heads;
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
      multiply(UP, layer.up, normed, n, model.up_.data, up_width, false);
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
    share(count, grain, [&](int first, int last) {
      for (int i = first; i < last; i++) f(i);
    });
    finish(name);
  }

  template <class F>
  void share(int count, int grain, F f) {
    auto& claim = model.claims_[phase++];
    for (int first; (first = claim.fetch_add(grain, std::memory_order_relaxed)) < count;)
      f(first, std::min(count, first + grain));
  }

  void wait() {
    if (threads > 1) model.team_.barrier();
  }

  void finish(Part name) {
    wait();
    if (number != 0) return;
    auto now = std::chrono::steady_clock::now();
    model.seconds[name] += std::chrono::duration<double>(now - since).count();
    since = now;
  }

  // Products of rows with a matrix.
  void multiply(Part name, const Linear& linear, const float* from, int rows, float* to, int stride, bool add) {
    share_product(linear, from, rows, to, stride, add);
    finish(name);
  }

  // The same, and of the rows of sequences that have an adapter with what it adds.
  void multiply(Part name, const Adapted& linear, const float* from, int rows, float* to, int stride, bool add) {
    const int runs = linear.adapters.empty() ? 0 : int(model.runs_.size());
    if (runs > 0) {
      share(runs, 1, [&](int i, int) {
        const auto [added, run, low] = change(linear, i);
        if (added == nullptr) return;
        const float* x = from + size_t(run.first) * linear.in;
        product(added->a, x, linear.in, run.rows, low, model.rank_, false).run(0, added->a.panels);
      });
    }
    share_product(linear, from, rows, to, stride, add);
    if (runs > 0) {
      wait();
      const int pieces = threads == 1 ? 1 : (4 * threads + runs - 1) / runs;
      share(runs * pieces, 1, [&](int i, int) {
        const auto [added, run, low] = change(linear, i / pieces);
        if (added == nullptr) return;
        for (const auto& [column, first, b] : added->targets)
          product(b, low + first, model.rank_, run.rows, out(to, run.first, stride) + column, stride, true)
              .run(b.panels * (i % pieces) / pieces, b.panels * (i % pieces + 1) / pieces);
      });
    }
    finish(name);
  }

  void share_product(const Linear& linear, const float* from, int rows, float* to, int stride, bool add) {
    linear.round(from, rows, model.rounded_[number]);
    const int grain = threads == 1 ? linear.panels : std::max(1, (linear.panels + 4 * threads - 1) / (4 * threads));
    const Product whole = product(linear, from, linear.in, rows, to, stride, add);
    share(linear.panels, grain, [&](int first, int last) { whole.run(first, last); });
  }

  Product product(const Linear& linear, const float* x, int x_stride, int rows, float* y, int y_stride, bool add) const {
    return {linear, x, size_t(x_stride), rows, y, size_t(y_stride), add, model.rounded_[number]};
  }

  struct Change {
    const LowRank* added;  // null: nothing
    const Run& run;
    float* low;  // A x, rank_ floats a row
  };

  Change change(const Adapted& linear, int index) const {
    const Run& run = model.runs_[index];
    const auto& adapters = linear.adapters;
    return {run.slot < int(adapters.size()) ? adapters[run.slot].get() : nullptr, run, out(model.lowered_.data, run.first, model.rank_)};
  }

  void embed(int row) {
    float* to = out(x, row, shape.hidden);
    look_up(model.tokens, batch.ids[row], [&](int i, float value) { to[i] = value; });
    if (model.positions.rows != nullptr)
      look_up(model.positions, batch.positions[row], [&](int i, float value) { to[i] += value; });
  }

  template <class F>
  void look_up(const Table& table, int row, F f) {
    const size_t size = shape.hidden, start = row * size;
    if (table.precision == Precision::float32) {
      for (int i = 0; i < int(size); i++) f(i, static_cast<const float*>(table.rows)[start + i]);
    } else if (table.precision == Precision::bfloat16) {
      for (int i = 0; i < int(size); i++) f(i, widen(static_cast<const Half*>(table.rows)[start + i]));
    } else {
      const Half* scale = table.scales + row * ((size + table.group - 1) / table.group);
      for (int first = 0; first < int(size); first += table.group, scale++)
        for (int i = first; i < std::min(first + table.group, int(size)); i++)
          f(i, static_cast<const int8_t*>(table.rows)[start + i] * widen(*scale));
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
