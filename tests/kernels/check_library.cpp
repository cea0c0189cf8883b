// Compares a built library of CPU kernels with plain scalar code in double precision.
//
//     check_library PATH_OF_LIBRARY [tiles]
//
// `tiles`: it is wrong if tiles cannot be used. This needs no Python, so that it also runs where there is nothing else, as in scripts/emulate_cpu.

#include <dlfcn.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "interface.h"

using byollm::Batch, byollm::Choice, byollm::Precision, byollm::Shape;
using Numbers = std::vector<float>;

namespace {

void* library;
std::vector<Precision> precisions{Precision::float32, Precision::bfloat16, Precision::int8, Precision::int4};
int failures;

template <class F>
F* function(const char* name) {
  void* found = dlsym(library, name);
  if (found == nullptr) std::printf("%s\n", dlerror()), std::exit(2);
  return reinterpret_cast<F*>(found);
}
#define CALL(name) function<decltype(byollm_##name)>("byollm_" #name)

void expect(bool right, const std::string& what) {
  if (right) return;
  std::printf("WRONG: %s\n", what.c_str());
  failures++;
}

std::mt19937 randomness(1);

Numbers draw(size_t count, float spread) {
  std::normal_distribution<float> normal(0, spread);
  Numbers out(count);
  for (float& x : out) x = normal(randomness);
  return out;
}

float halved(float x) {  // to bfloat16 and back
  if (std::isnan(x)) return x;
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
  std::memcpy(&x, &bits, 4);
  return x;
}

// ---------------------------------------------------------------- a decoder, as plainly as it can be written

struct Matrix {
  int out = 0, in = 0;
  Numbers weight, bias;  // (out, in) and (out,) or empty
};

bool integers(Precision precision) { return precision == Precision::int8 || precision == Precision::int4; }

// Weights as integers, an int each, with a scale for every `group` of a row.
struct Integers {
  int group = 0;
  std::vector<int> values;
  Numbers scales;
};

Integers to_integers(const Matrix& m, Precision precision) {
  const bool bytes = precision == Precision::int8;
  Integers out{m.out % 2 == 0 ? 32 : 96, {}, {}};
  for (int row = 0; row < m.out; row++) {
    for (int start = 0; start < m.in; start += out.group) {
      const float *first = &m.weight[size_t(row) * m.in + start], *last = first + std::min(out.group, m.in - start);
      const float extreme = *std::max_element(first, last, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
      const bool strange = std::any_of(first, last, [](float x) { return std::isnan(x); });
      const float scale = strange ? std::nanf("") : halved(bytes ? extreme / 127 : extreme / -8);
      out.scales.push_back(scale);
      for (const float* x = first; x < last; x++)
        out.values.push_back(scale == 0 ? 0 : std::clamp(int(std::lrintf(*x / scale)), bytes ? -127 : -8, bytes ? 127 : 7));
    }
  }
  return out;
}

// The head and the embeddings of a model in four bits have eight.
Precision wider(Precision precision) { return precision == Precision::int4 ? Precision::int8 : precision; }

// Adapters are kept whole where the weights are.
Precision of_adapters(Precision precision) {
  return precision == Precision::float32 ? precision : Precision::bfloat16;
}

// The weights that a precision keeps.
Numbers kept(const Matrix& m, Precision precision) {
  if (precision == Precision::float32) return m.weight;
  Numbers out = m.weight;
  if (!integers(precision)) {
    for (float& x : out) x = halved(x);
    return out;
  }
  const Integers in = to_integers(m, precision);
  const int groups = (m.in + in.group - 1) / in.group;
  for (int row = 0; row < m.out; row++)
    for (int i = 0; i < m.in; i++)
      out[size_t(row) * m.in + i] = in.values[size_t(row) * m.in + i] * in.scales[row * groups + i / in.group];
  return out;
}

// The activations that a product with weights of a precision sees.
Numbers seen(const Numbers& x, Precision precision) {
  Numbers out = x;
  if (precision == Precision::tiles)
    for (float& v : out) v = halved(v);
  if (integers(precision)) {
    for (size_t start = 0; start < x.size(); start += 32) {
      const size_t end = std::min(start + 32, x.size());
      float peak = 0;
      for (size_t i = start; i < end; i++) peak = std::max(peak, std::fabs(x[i]));
      for (size_t i = start; i < end; i++) out[i] = peak == 0 ? 0 : std::lrintf(x[i] * (127 / peak)) * (peak / 127);
    }
  }
  return out;
}

struct Norm {
  Numbers weight, bias;
};

struct Pair {
  Matrix a, b;
};

using Pairs = std::map<std::string, Pair>;  // by part

struct LayerWeights {
  Matrix qkv, o, up, down;
  Norm before, after;
  Numbers q_norm, k_norm;
  int window = 0;
  std::vector<Pairs> adapters;  // by slot
};

struct Variant {
  const char* name;
  Shape shape;
  bool biases, own_norms;  // norms of queries and keys
  int window;
};

Matrix draw_matrix(int out, int in, bool bias = false) {
  return Matrix{out, in, draw(size_t(out) * in, 1 / std::sqrt(float(in))), bias ? draw(out, 0.3f) : Numbers{}};
}

struct Weights {
  Variant variant;
  std::vector<LayerWeights> layers;
  Matrix head;
  Norm last;
  Matrix tokens;
  Numbers positions, cos, sin;

  Weights(const Variant& v, int places) : variant(v) {
    const Shape& s = v.shape;
    const int width = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    auto matrix = [&](int out, int in, bool bias) { return draw_matrix(out, in, bias); };
    auto norm = [&](int size) {
      Norm out{draw(size, 0.2f), s.layer_norm ? draw(size, 0.3f) : Numbers{}};
      for (float& x : out.weight) x += 1;
      return out;
    };
    for (int i = 0; i < s.layers; i++) {
      LayerWeights l;
      l.qkv = matrix(width + 2 * kv, s.hidden, v.biases), l.o = matrix(s.hidden, width, v.biases);
      l.up = matrix(s.inner * (s.gated ? 2 : 1), s.hidden, v.biases), l.down = matrix(s.hidden, s.inner, v.biases);
      l.before = norm(s.hidden);
      if (!s.parallel) l.after = norm(s.hidden);
      if (v.own_norms) l.q_norm = norm(s.head_dim).weight, l.k_norm = norm(s.head_dim).weight;
      l.window = i % 2 == 0 ? v.window : 0;
      layers.push_back(l);
    }
    head = matrix(s.vocab, s.hidden, false);
    last = norm(s.hidden);
    tokens = Matrix{s.vocab, s.hidden, draw(size_t(s.vocab) * s.hidden, 1), {}};
    if (s.rotary_pairs == 0) positions = draw(size_t(places) * s.hidden, 1);
    for (int p = 0; p < places; p++) {
      for (int i = 0; i < s.rotary_pairs; i++) {
        const double angle = p * std::pow(100.0, -double(i) / s.rotary_pairs);
        cos.push_back(float(std::cos(angle))), sin.push_back(float(std::sin(angle)));
      }
    }
  }
};

Numbers product(const Matrix& m, const Numbers& weight, const Numbers& x, Precision precision) {
  const Numbers from = seen(x, precision);
  Numbers out(m.out);
  for (int row = 0; row < m.out; row++) {
    double total = m.bias.empty() ? 0 : m.bias[row];
    for (int i = 0; i < m.in; i++) total += double(weight[size_t(row) * m.in + i]) * from[i];
    out[row] = float(total);
  }
  return out;
}

// Add what the adapter in a slot, if there is one, adds to a part of a product, which begins at `to`.
void adapt(const LayerWeights& l, int slot, const char* part, const Numbers& x, float* to, Precision precision) {
  if (slot < 0 || l.adapters[slot].count(part) == 0) return;
  const Pair& pair = l.adapters[slot].at(part);
  const Numbers low = product(pair.a, kept(pair.a, of_adapters(precision)), x, Precision::float32);
  const Numbers more = product(pair.b, kept(pair.b, of_adapters(precision)), low, Precision::float32);
  for (size_t i = 0; i < more.size(); i++) to[i] += more[i];
}

void normalise(const Shape& s, const float* x, int size, const Numbers& weight, const Numbers& bias, float* to) {
  double mean = 0, squares = 0;
  if (s.layer_norm) mean = std::accumulate(x, x + size, 0.0) / size;
  for (int i = 0; i < size; i++) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1 / std::sqrt(squares / size + s.eps);
  for (int i = 0; i < size; i++) to[i] = float((x[i] - mean) * scale * weight[i] + (bias.empty() ? 0 : bias[i]));
}

// Final hidden states and scores after each token of a text.
struct Answer {
  std::vector<Numbers> hidden, scores;
};

Answer decode(const Weights& w, const std::vector<int>& text, Precision precision, int slot = -1) {
  const Shape& s = w.variant.shape;
  const int width = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim, n = int(text.size());
  std::vector<Numbers> x(n);
  const Numbers tokens = kept(w.tokens, precision == Precision::tiles ? Precision::bfloat16 : wider(precision));
  for (int row = 0; row < n; row++) {
    const auto embedding = tokens.begin() + size_t(text[row]) * s.hidden;
    x[row].assign(embedding, embedding + s.hidden);
    if (!w.positions.empty())
      for (int i = 0; i < s.hidden; i++) x[row][i] += w.positions[size_t(row) * s.hidden + i];
  }
  auto cached = [&](float v) { return s.half_cache ? halved(v) : v; };
  for (const LayerWeights& l : w.layers) {
    const Numbers qkv = kept(l.qkv, precision), o = kept(l.o, precision);
    const Numbers up = kept(l.up, precision), down = kept(l.down, precision);
    std::vector<Numbers> all(n);
    for (int row = 0; row < n; row++) {
      Numbers normed(s.hidden);
      normalise(s, x[row].data(), s.hidden, l.before.weight, l.before.bias, normed.data());
      Numbers& r = all[row] = product(l.qkv, qkv, normed, precision);
      adapt(l, slot, "q", normed, &r[0], precision), adapt(l, slot, "k", normed, &r[width], precision);
      adapt(l, slot, "v", normed, &r[width + kv], precision);
      for (int head = 0; head < s.heads + s.kv_heads; head++) {
        float* v = &r[size_t(head) * s.head_dim];
        const Numbers& norm = head < s.heads ? l.q_norm : l.k_norm;
        if (!norm.empty()) normalise(s, v, s.head_dim, norm, {}, v);
        for (int i = 0; i < s.rotary_pairs; i++) {
          const float c = w.cos[size_t(row) * s.rotary_pairs + i], d = w.sin[size_t(row) * s.rotary_pairs + i];
          const float first = v[i], second = v[i + s.rotary_pairs];
          v[i] = first * c - second * d, v[i + s.rotary_pairs] = second * c + first * d;
        }
      }
      for (int i = width; i < width + 2 * kv; i++) r[i] = cached(r[i]);

      Numbers attended(width);
      const int from = l.window == 0 ? 0 : std::max(0, row + 1 - l.window);
      for (int head = 0; head < s.heads; head++) {
        const int at = head / (s.heads / s.kv_heads) * s.head_dim;
        std::vector<double> weights, sums(s.head_dim);
        double total = 0;
        for (int t = from; t <= row; t++) {
          double dot = 0;
          for (int i = 0; i < s.head_dim; i++) dot += double(r[head * s.head_dim + i]) * all[t][width + at + i];
          weights.push_back(dot / std::sqrt(double(s.head_dim)));
        }
        const double peak = *std::max_element(weights.begin(), weights.end());
        for (double& p : weights) total += p = std::exp(p - peak);
        for (int t = from; t <= row; t++)
          for (int i = 0; i < s.head_dim; i++) sums[i] += weights[t - from] / total * all[t][width + kv + at + i];
        for (int i = 0; i < s.head_dim; i++) attended[head * s.head_dim + i] = float(sums[i]);
      }
      Numbers added = product(l.o, o, attended, precision);
      adapt(l, slot, "o", attended, &added[0], precision);
      for (int i = 0; i < s.hidden; i++) x[row][i] += added[i];

      if (!s.parallel) normalise(s, x[row].data(), s.hidden, l.after.weight, l.after.bias, normed.data());
      Numbers u = product(l.up, up, normed, precision);
      if (s.gated) adapt(l, slot, "gate", normed, &u[0], precision);
      adapt(l, slot, "up", normed, &u[s.gated ? s.inner : 0], precision);
      Numbers inner(s.inner);
      for (int i = 0; i < s.inner; i++) {
        const double v = u[i];
        inner[i] = float(s.gated ? v / (1 + std::exp(-v)) * u[s.inner + i]
                                 : 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))));
      }
      Numbers more = product(l.down, down, inner, precision);
      adapt(l, slot, "down", inner, &more[0], precision);
      for (int i = 0; i < s.hidden; i++) x[row][i] += more[i];
    }
  }
  Answer out;
  const Numbers head = kept(w.head, wider(precision));
  for (const Numbers& row : x) {
    Numbers normed(s.hidden);
    normalise(s, row.data(), s.hidden, w.last.weight, w.last.bias, normed.data());
    out.hidden.push_back(normed), out.scores.push_back(product(w.head, head, normed, wider(precision)));
  }
  return out;
}

// ------------------------------------------------------------------------------- the same through the library

uint16_t half(float x) {
  x = halved(x);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return uint16_t(bits >> 16);
}

std::vector<uint16_t> halves(const Numbers& x) {
  std::vector<uint16_t> out;
  std::transform(x.begin(), x.end(), std::back_inserter(out), half);
  return out;
}

// Integers as they are handed over.
struct Stored {
  int group;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;

  Stored(const Matrix& m, Precision precision) {
    const Integers in = to_integers(m, precision);
    group = in.group, scales = halves(in.scales);
    for (int row = 0; row < m.out; row++) {
      const int* values = &in.values[size_t(row) * m.in];
      for (int i = 0; i < m.in; i++) {
        if (precision == Precision::int8) codes.push_back(uint8_t(values[i]));
        else if (i % 2 == 0) codes.push_back(uint8_t(8 << 4 | (values[i] + 8)));
        else codes.back() = uint8_t((codes.back() & 15) | (values[i] + 8) << 4);
      }
    }
  }
};

class Subject {
 public:
  static constexpr int BLOCKS = 16;

  Subject(const Weights& w, Precision precision, int threads) : shape_(w.variant.shape), precision_(precision) {
    model_ = CALL(new)(&shape_, threads);
    auto linear = [&](int layer, const char* name, const Matrix& m, Precision precision) {
      const float* bias = m.bias.empty() ? nullptr : m.bias.data();
      if (integers(precision)) {
        const Stored stored(m, precision);
        done(CALL(packed)(model_, layer, name, stored.codes.data(), stored.scales.data(), stored.group, m.out, m.in, bias,
                          int32_t(precision)));
      } else if (precision == Precision::bfloat16) {
        done(CALL(linear)(model_, layer, name, halves(m.weight).data(), 1, m.out, m.in, bias, int32_t(precision)));
      } else {
        done(CALL(linear)(model_, layer, name, m.weight.data(), 0, m.out, m.in, bias, int32_t(precision)));
      }
    };
    auto vector = [&](int layer, const char* name, const Numbers& values) {
      if (!values.empty()) done(CALL(vector)(model_, layer, name, values.data(), int64_t(values.size())));
    };
    const int padded = (shape_.head_dim + 15) / 16 * 16, bytes = shape_.half_cache ? 2 : 4;
    for (int i = 0; i < shape_.layers; i++) {
      const LayerWeights& l = w.layers[i];
      linear(i, "qkv", l.qkv, precision), linear(i, "o", l.o, precision);
      linear(i, "up", l.up, precision), linear(i, "down", l.down, precision);
      vector(i, "before", l.before.weight), vector(i, "before_bias", l.before.bias);
      vector(i, "after", l.after.weight), vector(i, "after_bias", l.after.bias);
      vector(i, "q_norm", l.q_norm), vector(i, "k_norm", l.k_norm);
      done(CALL(window)(model_, i, l.window));
      const size_t tokens = size_t(BLOCKS) * shape_.kv_heads * 16 * bytes;
      pages_.push_back(std::vector<char>(tokens * shape_.head_dim)), pages_.push_back(std::vector<char>(tokens * padded));
    }
    for (int i = 0; i < shape_.layers; i++) keys_.push_back(pages_[2 * i].data()), values_.push_back(pages_[2 * i + 1].data());
    linear(0, "head", w.head, wider(precision));
    vector(0, "last", w.last.weight), vector(0, "last_bias", w.last.bias);
    vector(0, "cos", w.cos), vector(0, "sin", w.sin);
    if (integers(precision)) {
      tokens_ = std::make_unique<Stored>(w.tokens, Precision::int8);
      done(CALL(table)(model_, "tokens", tokens_->codes.data(), int32_t(Precision::int8), tokens_->scales.data(),
                       tokens_->group));
    } else if (precision == Precision::float32) {
      done(CALL(table)(model_, "tokens", w.tokens.weight.data(), int32_t(precision), nullptr, 0));
    } else {
      halves_ = halves(w.tokens.weight);
      done(CALL(table)(model_, "tokens", halves_.data(), int32_t(Precision::bfloat16), nullptr, 0));
    }
    if (!w.positions.empty())
      done(CALL(table)(model_, "positions", w.positions.data(), int32_t(Precision::float32), nullptr, 0));
  }

  ~Subject() { CALL(free)(model_); }
  Subject(const Subject&) = delete;

  // Put adapters into slots, or if `there` is false take them out.
  void adapt(const Weights& w, bool there = true) {
    const int width = shape_.heads * shape_.head_dim, kv = shape_.kv_heads * shape_.head_dim;
    const std::map<std::string, std::vector<std::pair<const char*, int>>> products = {
        {"qkv", {{"q", 0}, {"k", width}, {"v", width + kv}}},
        {"o", {{"o", 0}}},
        {"up", {{"gate", 0}, {"up", shape_.gated ? shape_.inner : 0}}},
        {"down", {{"down", 0}}},
    };
    for (size_t slot = 0; slot < w.layers[0].adapters.size(); slot++) {
      done(CALL(vacate)(model_, int32_t(slot)));
      for (int i = 0; there && i < shape_.layers; i++)
        for (const auto& [name, parts] : products) adapt(int32_t(slot), i, name, parts, w.layers[i].adapters[slot]);
    }
  }

  void adapt(int32_t slot, int layer, const std::string& name, const std::vector<std::pair<const char*, int>>& parts, const Pairs& pairs) {
    Numbers a;
    int32_t rank = 0;
    const auto precision = int32_t(of_adapters(precision_));
    for (const auto& [part, column] : parts) {
      if (pairs.count(part) == 0) continue;
      const Matrix& more = pairs.at(part).a;
      a.insert(a.end(), more.weight.begin(), more.weight.end()), rank += more.out;
    }
    if (a.empty()) return;
    done(CALL(adapter)(model_, slot, layer, name.c_str(), a.data(), rank, precision));
    rank = 0;
    for (const auto& [part, column] : parts) {
      if (pairs.count(part) == 0) continue;
      const Matrix& b = pairs.at(part).b;
      done(CALL(adapter_target)(model_, slot, layer, name.c_str(), column, rank, b.weight.data(), b.out, b.in, precision));
      rank += b.in;
    }
  }

  // Feed texts side by side in chunks that differ from text to text; slots: of their adapters, or empty.
  std::vector<Answer> decode(const std::vector<std::vector<int>>& texts, const std::vector<int>& slots = {}) {
    std::vector<Answer> out(texts.size());
    std::vector<size_t> computed(texts.size());
    for (int round = 0;; round++) {
      std::vector<int32_t> ids, positions, first_rows{0}, tables, first_ids, of, spans;
      int block = BLOCKS;
      for (size_t i = 0; i < texts.size(); i++) {
        const int blocks = int(texts[i].size() + 15) / 16;
        block -= blocks;
        const size_t chunk = std::min(texts[i].size() - computed[i], (i * 5 + round * 7) % 19 + 1);
        if (chunk == 0) continue;
        first_ids.push_back(int32_t(tables.size()));
        if (!slots.empty()) spans.push_back(slots[i]);
        for (int b = 0; b < blocks; b++) tables.push_back(block + (b * 5 + 1) % blocks);  // in any order
        if (blocks % 5 == 0) std::iota(tables.end() - blocks, tables.end(), block);
        for (size_t p = computed[i]; p < computed[i] + chunk; p++)
          ids.push_back(texts[i][p]), positions.push_back(int(p)), of.push_back(int(i));
        first_rows.push_back(int32_t(ids.size()));
        computed[i] += chunk;
      }
      if (ids.empty()) return out;
      const int n = int(ids.size());
      std::vector<int32_t> rows(n);
      std::iota(rows.begin(), rows.end(), 0);
      Numbers scores(size_t(n) * shape_.vocab), hidden(size_t(n) * shape_.hidden);
      const Batch batch{n, ids.data(), positions.data(), int(first_ids.size()), first_rows.data(), tables.data(),
                        first_ids.data(), keys_.data(), values_.data(), n, rows.data(), scores.data(), hidden.data(),
                        slots.empty() ? nullptr : spans.data()};
      done(CALL(forward)(model_, &batch));
      for (int row = 0; row < n; row++) {
        auto part = [&](const Numbers& of, int size) {
          return Numbers(of.begin() + size_t(row) * size, of.begin() + size_t(row + 1) * size);
        };
        out[of[row]].hidden.push_back(part(hidden, shape_.hidden));
        out[of[row]].scores.push_back(part(scores, shape_.vocab));
      }
    }
  }

 private:
  static void done(int status) {
    if (status != 0) std::printf("the library failed: %s\n", CALL(failure)()), std::exit(2);
  }

  Shape shape_;
  Precision precision_;
  byollm::Model* model_;
  std::unique_ptr<Stored> tokens_;
  std::vector<uint16_t> halves_;
  std::vector<std::vector<char>> pages_;
  std::vector<void*> keys_, values_;
};

// ------------------------------------------------------------------------------------------------- the checks

const char* NAMES[] = {"float32", "bfloat16", "int8", "int4", "tiles"};

bool exact(Precision precision) { return precision == Precision::float32 || precision == Precision::bfloat16; }

double furthest(const std::vector<Numbers>& found, const std::vector<Numbers>& expected) {
  double most = 0, off = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    for (size_t k = 0; k < expected[i].size(); k++) {
      most = std::max(most, std::fabs(double(expected[i][k])));
      const double gap = std::fabs(double(found[i][k]) - expected[i][k]);
      off = std::isnan(gap) ? std::numeric_limits<double>::infinity() : std::max(off, gap);
    }
  }
  return off / most;
}

bool equal(const std::vector<Numbers>& a, const std::vector<Numbers>& b) {
  for (size_t i = 0; i < a.size(); i++)
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0) return false;
  return a.size() == b.size();
}

std::vector<std::vector<int>> draw_texts(const std::vector<int>& lengths, int vocab) {
  std::vector<std::vector<int>> texts;
  for (int length : lengths) {
    texts.emplace_back(length);
    for (int& token : texts.back()) token = int(randomness() % vocab);
  }
  return texts;
}

void compare(const Variant& variant, Precision precision, const std::vector<int>& lengths, double bound) {
  const Weights weights(variant, *std::max_element(lengths.begin(), lengths.end()));
  const auto texts = draw_texts(lengths, variant.shape.vocab);
  const std::string what = std::string(variant.name) + ", " + NAMES[int(precision)];
  const auto together = Subject(weights, precision, 1).decode(texts);
  double off = 0;
  for (size_t i = 0; i < texts.size(); i++) {
    const Answer plain = decode(weights, texts[i], precision);
    off = std::max({off, furthest(together[i].scores, plain.scores), furthest(together[i].hidden, plain.hidden)});
    const auto alone = Subject(weights, precision, 1).decode({texts[i]});
    expect(equal(together[i].scores, alone[0].scores), what + ": neighbours change bits");
  }
  std::printf("%-40s off by %.1e\n", what.c_str(), off);
  expect(off <= bound, what + ": too far from the plain decoder");
}

// Products of every shape: a decoder without layers is embedding, norm and head.
void check_products() {
  for (Precision precision : precisions) {
    for (auto [in, out] : {std::pair{1, 1}, {3, 40}, {31, 33}, {32, 64}, {33, 97}, {64, 130}, {96, 17}, {200, 70}}) {
      const std::string name = "product " + std::to_string(in) + " x " + std::to_string(out);
      const Variant variant{name.c_str(), {out, in, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1e-6f}, false, false, 0};
      // norms differ in their last bits, which may move an activation to the neighbouring byte or bfloat16
      compare(variant, precision, {1, 2, 3, 4, 5, 6, 7, 13, 16, 17, 32, 33, 49}, exact(precision) ? 2e-6 : 4e-3);
    }
  }
}

void check_decoders() {
  const Variant variants[] = {
      {"gated, grouped, norms of heads", {50, 40, 2, 4, 2, 16, 56, 8, 0, 1, 0, 0, 1e-6f}, false, true, 0},
      {"one key head, window, odd head size", {50, 36, 3, 7, 1, 20, 48, 10, 0, 1, 0, 0, 1e-6f}, true, false, 9},
      {"GELU, places, layer norm", {50, 40, 2, 2, 2, 24, 70, 0, 1, 0, 0, 0, 1e-5f}, true, false, 0},
      {"parallel, half rotary, half cache", {50, 64, 2, 2, 1, 40, 64, 8, 1, 1, 1, 1, 1e-5f}, false, false, 0},
  };
  for (const Variant& variant : variants) {
    for (Precision precision : precisions) {
      compare(variant, precision, {1, 5, 17, 40}, exact(precision) && !variant.shape.half_cache ? 1e-5 : 2e-2);
    }
  }
}

// Sequences with the adapters of two slots, with one that was never filled, and with none, in one batch.
void check_adapters() {
  const Variant variants[] = {
      {"adapters, gated, grouped", {50, 40, 2, 4, 2, 16, 56, 8, 0, 1, 0, 0, 1e-6f}, true, true, 0},
      {"adapters, GELU, places", {50, 40, 2, 2, 2, 24, 70, 0, 1, 0, 0, 0, 1e-5f}, true, false, 0},
      {"adapters, parallel", {50, 64, 2, 2, 1, 40, 64, 8, 1, 1, 1, 0, 1e-5f}, false, false, 0},
  };
  for (const Variant& variant : variants) {
    const Shape& s = variant.shape;
    const int width = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    for (Precision precision : precisions) {
      Weights weights(variant, 70);
      for (int i = 0; i < s.layers; i++) {
        auto pair = [&](int out, int in, int rank) { return Pair{draw_matrix(rank, in), draw_matrix(out, rank)}; };
        auto& slots = weights.layers[i].adapters;
        slots.resize(2);
        slots[0] = {{"q", pair(width, s.hidden, 3)}, {"v", pair(kv, s.hidden, 3)}, {"down", pair(s.hidden, s.inner, 3)}};
        if (i == 0) continue;  // the other is in one layer only, but everywhere
        slots[1] = {{"k", pair(kv, s.hidden, 17)}, {"o", pair(s.hidden, width, 40)}, {"up", pair(s.inner, s.hidden, 1)}};
        if (s.gated) slots[1]["gate"] = pair(s.inner, s.hidden, 8);
      }
      const auto texts = draw_texts({60, 1, 30, 17, 5, 2, 1}, s.vocab);
      const std::vector<int> slots{0, 0, 1, -1, 5, 1, 0};
      const std::string what = std::string(variant.name) + ", " + NAMES[int(precision)];
      Subject subject(weights, precision, 1), three(weights, precision, 3);
      const auto base = subject.decode(texts);
      subject.adapt(weights), three.adapt(weights);
      const auto found = subject.decode(texts, slots), shared = three.decode(texts, slots);
      double off = 0;
      for (size_t i = 0; i < texts.size(); i++) {
        const int slot = slots[i] == 5 ? -1 : slots[i];
        off = std::max(off, furthest(found[i].scores, decode(weights, texts[i], precision, slot).scores));
        expect(equal(found[i].scores, base[i].scores) == (slot < 0), what + ": the wrong texts are changed");
        expect(equal(found[i].scores, subject.decode({texts[i]}, {slots[i]})[0].scores), what + ": neighbours change bits");
        expect(equal(found[i].scores, shared[i].scores), what + ": threads change bits");
      }
      std::printf("%-40s off by %.1e\n", what.c_str(), off);
      expect(off <= (exact(precision) ? 1e-5 : 2e-2), what + ": too far from the plain decoder");
      subject.adapt(weights, false);
      expect(equal(subject.decode(texts, slots)[0].scores, base[0].scores), what + ": an adapter stays");
    }
  }
}

// Large enough for steps that threads share, and with steps at the end that they do not.
void check_threads() {
  const Variant variant{"threads", {500, 128, 2, 4, 2, 32, 256, 16, 0, 1, 0, 0, 1e-6f}, false, true, 0};
  for (Precision precision : precisions) {
    const Weights weights(variant, 64);
    const auto texts = draw_texts({64, 30, 33, 8}, variant.shape.vocab);
    const auto one = Subject(weights, precision, 1).decode(texts), three = Subject(weights, precision, 3).decode(texts);
    for (size_t i = 0; i < texts.size(); i++)
      expect(equal(one[i].scores, three[i].scores), std::string("threads change bits, ") + NAMES[int(precision)]);
  }
}

// What is not a number stays with whom it belongs.
void check_strange() {
  const Variant variant{"strange", {50, 40, 1, 2, 2, 16, 56, 8, 0, 1, 0, 0, 1e-6f}, false, false, 0};
  for (Precision precision : precisions) {
    Weights weights(variant, 8);
    weights.tokens.weight[7 * 40 + 3] = std::nanf("");
    const auto out = Subject(weights, precision, 1).decode({{1, 7, 2, 3}, {1, 2, 3, 4}});
    auto finite = [](const Numbers& row) { return std::isfinite(std::accumulate(row.begin(), row.end(), 0.0)); };
    auto strange = [](const Numbers& row) { return std::none_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); }); };
    expect(finite(out[0].scores[0]) && strange(out[0].scores[1]) && strange(out[0].scores[3]), "NaN is lost");
    expect(std::all_of(out[1].scores.begin(), out[1].scores.end(), finite), "NaN reaches a neighbour");
  }
}

// Whether `number` of the total weight falls to `token`, or all but.
bool falls_to(const std::vector<double>& weights, int token, double number) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double before = std::accumulate(weights.begin(), weights.begin() + token, 0.0);
  return weights[token] > 0 && number * total >= before - 1e-5 * total &&
         number * total <= before + weights[token] + 1e-5 * total;
}

// The random numbers of byollm/engine/uniform.py.
double uniform(uint64_t seed, uint64_t position, int which) {
  const uint64_t golden = 0x9E3779B97F4A7C15;
  auto mix = [](uint64_t word) {
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9;
    word = (word ^ word >> 27) * 0x94D049BB133111EB;
    return word ^ word >> 31;
  };
  return double(mix(mix(seed + golden) + (2 * position + 1 + which) * golden) >> 11) / 0x1p53;
}

void check_sampling() {
  const float infinity = std::numeric_limits<float>::infinity();
  for (int vocab : {1, 7, 33, 100, 1000}) {
    for (int trial = 0; trial < 60; trial++) {
      Numbers scores = draw(vocab, 3);
      if (trial % 5 == 1 && vocab > 1) scores[vocab - 1] = -infinity;
      if (trial % 5 == 2) scores[randomness() % vocab] = scores[0] = 20;
      if (trial % 15 == 3) scores[randomness() % vocab] = std::nanf("");
      const uint64_t seed = uint64_t(randomness()) << 32 | randomness();
      const int32_t position = randomness() % 10000;
      const Choice choice{seed,
                          trial % 3 == 0 ? 0 : 0.3f + trial % 7,
                          trial % 4 == 1 ? 0.8f : 1,
                          trial % 8 == 2 ? 0.1f : 0,
                          trial % 4 == 3 ? 1 + trial % 9 : 0};
      int32_t token;
      CALL(choose)(scores.data(), 1, vocab, &choice, &position, &token);
      const std::string what = "sampling, " + std::to_string(vocab) + " tokens, trial " + std::to_string(trial);
      if (std::any_of(scores.begin(), scores.end(), [](float x) { return std::isnan(x); })) {
        expect(token == -1, what + ": NaN is lost");
        continue;
      }
      const auto top = std::max_element(scores.begin(), scores.end());
      if (choice.temperature == 0) {
        expect(token == top - scores.begin(), what + ": greedy");
        continue;
      }
      std::vector<double> weights;
      for (float x : scores) weights.push_back(std::exp((double(x) - *top) / choice.temperature));
      if (choice.top_k == 0 && choice.top_p == 1 && choice.min_p == 0) {  // a block first, then a token of it
        int bits = 0;
        while ((vocab - 1) >> bits) bits++;
        const int size = 1 << (bits / 2), block = token / size;
        std::vector<double> blocks((vocab + size - 1) / size);
        for (int i = 0; i < vocab; i++) blocks[i / size] += weights[i];
        const auto inside = weights.begin() + block * size;
        expect(falls_to(blocks, block, uniform(seed, position, 0)), what + ": block");
        const std::vector<double> of_block(inside, inside + std::min(size, vocab - block * size));
        expect(falls_to(of_block, token % size, uniform(seed, position, 1)), what);
        continue;
      }
      std::vector<int> order(vocab);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
      if (choice.top_k > 0) order.resize(std::min(choice.top_k, vocab));
      double total = 0, before = 0;
      for (int i : order) total += weights[i];
      std::vector<double> lot;
      int place = -1;
      for (int i : order) {
        if (!lot.empty() && (before >= choice.top_p * total || weights[i] < choice.min_p)) break;
        if (i == token) place = int(lot.size());
        before += weights[i], lot.push_back(weights[i]);
      }
      expect(place >= 0 && falls_to(lot, place, uniform(seed, position, 0)), what + ": filtered");
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return std::printf("usage: check_library LIBRARY [tiles]\n"), 2;
  library = dlopen(arguments[1], RTLD_NOW);
  if (library == nullptr) return std::printf("%s\n", dlerror()), 2;
  if (CALL(tiles)()) precisions.push_back(Precision::tiles);
  expect(count == 2 || precisions.back() == Precision::tiles, "there are no tiles");
  check_products();
  check_decoders();
  check_adapters();
  check_threads();
  check_strange();
  check_sampling();
  std::printf(failures == 0 ? "ALL RIGHT\n" : "%d WRONG\n", failures);
  std::fflush(stdout);
  tcdrain(STDOUT_FILENO);  // an emulated machine stops dead when this, its only program, ends
  return failures != 0;
}
