// The next token of each row of scores, by the rules that byollm/engine/sampler.py defines.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "interface.h"
#include "memory.h"
#include "simd.h"

namespace byollm {

// Random numbers in [0, 1) that belong to a seed and a position, as byollm/engine/uniform.py defines them.
class Uniforms {
 public:
  Uniforms(uint64_t seed, int position) : counter_(mix(seed + GOLDEN) + 2 * uint64_t(position) * GOLDEN) {}

  double next() { return double(mix(counter_ += GOLDEN) >> 11) * 0x1p-53; }

 private:
  static constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15;

  static uint64_t mix(uint64_t word) {
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB;
    return word ^ (word >> 31);
  }

  uint64_t counter_;
};

class Sampler {
 public:
  // Returns the token, -1 if any score is not a number.
  int choose(const float* scores, int vocab, const Choice& choice, int position) {
    const float best = peak(scores, vocab);
    if (!std::isfinite(best)) return -1;
    if (choice.temperature == 0) return int(std::find(scores, scores + vocab, best) - scores);
    weigh(scores, vocab, best, choice.temperature);
    Uniforms numbers(choice.seed, position);
    const bool filtered = choice.top_k > 0 || choice.top_p < 1 || choice.min_p > 0;
    return filtered ? draw_filtered(vocab, choice, numbers) : draw_whole(vocab, numbers);
  }

 private:
  static float peak(const float* scores, int vocab) {
    Floats most = spread(scores[0]), strange = zeros();
    const int whole = vocab / W * W;
    for (int i = 0; i < whole; i += W) {
      Floats x = read(scores + i);
      most = larger(most, x);
      strange = strange + (x - x);  // 0, unless x is not finite
    }
    float out = whole > 0 ? largest(most) : scores[0], odd = sum(strange);
    for (int i = whole; i < vocab; i++) out = std::max(out, scores[i]), odd += scores[i] - scores[i];
    if (odd == 0) return out;
    for (int i = 0; i < vocab; i++)  // minus infinity is a score like any other
      if (std::isnan(scores[i])) return scores[i];
    return *std::max_element(scores, scores + vocab);
  }

  // exp((score - best) / temperature): probabilities up to a factor.
  void weigh(const float* scores, int vocab, float best, float temperature) {
    constexpr float LOWEST = 1e-6f;
    float* to = weights_.at_least(size_t(vocab) + W);
    const Floats top = spread(best), by = spread(std::max(temperature, LOWEST));
    each(scores, vocab, [&](int i, Floats x, int count) {
      Floats scaled = (x - top) / by;
      put(to + i, exponential(scaled), count);
    });
    for (int i = 0; i < vocab; i++)
      if (scores[i] == -std::numeric_limits<float>::infinity()) to[i] = 0;  // `exponential` has a least value
  }

  // The first place where a share of the running total is exceeded.
  template <class Weight>
  static int invert(int count, double number, double total, Weight weight) {
    const double target = std::min(number * total, std::nextafter(total, 0.0));
    double running = 0;
    int last = 0;
    for (int i = 0; i < count; i++) {
      running += weight(i);
      if (running > target) return i;
      if (weight(i) > 0) last = i;
    }
    return last;
  }

  // A block of tokens first, then a token of it.
  int draw_whole(int vocab, Uniforms& numbers) {
    int bits = 0;
    while ((vocab - 1) >> bits) bits++;
    const int size = 1 << (bits / 2), blocks = (vocab + size - 1) / size;
    sums_.resize(blocks);
    double total = 0;
    for (int block = 0; block < blocks; block++) {
      float inside = 0;
      for (int i = block * size; i < std::min(vocab, (block + 1) * size); i++) inside += weights_.data[i];
      total += sums_[block] = inside;
    }
    const int block = invert(blocks, numbers.next(), total, [&](int i) { return double(sums_[i]); });
    const float* inside = weights_.data + block * size;
    const int count = std::min(size, vocab - block * size);
    double mass = 0;
    for (int i = 0; i < count; i++) mass += inside[i];
    return block * size + invert(count, numbers.next(), mass, [&](int i) { return double(inside[i]); });
  }

  // Among the tokens that top_k, top_p and min_p keep: the first few in order of weight, then of id.
  int draw_filtered(int vocab, const Choice& choice, Uniforms& numbers) {
    double mass = 0;
    for (int i = 0; i < vocab; i++) mass += weights_.data[i];
    const int k = choice.top_k > 0 && choice.top_k < vocab ? choice.top_k : vocab;
    const double p = choice.top_p < 1 ? choice.top_p : std::numeric_limits<double>::infinity();
    for (float least : {0.05f, 0.001f, 0.0f}) {  // usually the heaviest few decide
      heaviest_.clear();
      for (int i = 0; i < vocab; i++)
        if (weights_.data[i] >= least) heaviest_.emplace_back(-weights_.data[i], i);
      const int count = int(heaviest_.size());
      if (k < vocab && count < k && least > 0) continue;
      std::sort(heaviest_.begin(), heaviest_.end());
      double within = mass;
      if (k < vocab) {
        within = 0;
        for (int i = 0; i < k; i++) within -= heaviest_[i].first;
      }
      double before = 0;
      int kept = 0;
      for (; kept < std::min(count, k); kept++) {
        const float weight = -heaviest_[kept].first;
        if (!(before < p * within) || weight < choice.min_p) break;
        before += weight;
      }
      if (kept == count && kept < k && least > 0) continue;  // lighter ones may belong to them
      kept = std::max(kept, 1);
      double total = 0;
      for (int i = 0; i < kept; i++) total -= heaviest_[i].first;
      return heaviest_[invert(kept, numbers.next(), total, [&](int i) { return -double(heaviest_[i].first); })].second;
    }
    return 0;  // not reached: with the last bound every token is there
  }

  Memory<float> weights_;
  std::vector<float> sums_;
  std::vector<std::pair<float, int>> heaviest_;
};

}  // namespace byollm
