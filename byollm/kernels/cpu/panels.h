// Weights (out, in) of products y = x W^T + b, packed once.
//
// W is cut into panels of 2 * W columns of W^T. A panel holds, for k = 0, 1, ...
//
//   float32    its columns' weights for k, as floats
//   bfloat16   the same in half the space: column i in the low half of a word, column i + W in the high half
//   int8       for four k at a time, four bytes a column; after each group of 32 k the columns' scales
//   int4       for eight k at a time, four bytes a column: k..k+3 in the low nibbles, k+4..k+7 in the high ones,
//              each 8 more than the weight; scales as for int8
//   tiles      for 32 k at a time, a tile of AMX for each half of its columns, in bfloat16; see tiles.h
#pragma once

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "interface.h"
#include "rounded.h"
#include "simd.h"
#include "tiles.h"

namespace byollm {

constexpr int COLUMNS = 2 * W;  // of a panel

// Weights (out, in) that are integers times scales, as byollm/modeling/packed.py defines them.
struct Codes {
  const uint8_t* codes;  // int8: (out, in); int4: (out, (in + 1) / 2), two to a byte, each 8 more than the weight
  const Half* scales;    // (out, groups)
  int group;             // how many k share a scale: a multiple of GROUP
};

struct Linear {
  int in = 0, out = 0, panels = 0;
  Precision precision = Precision::float32;
  size_t panel_bytes = 0;
  char* weights = nullptr;  // in an arena
  std::vector<float> bias;  // of all panels' columns; empty: none

  bool integers() const { return precision == Precision::int8 || precision == Precision::int4; }

  // Round activations (rows, in) as the products want them.
  void round(const float* x, int rows, Rounded& rounded) const {
    if (integers()) rounded.to_bytes(x, rows, in);
    if (precision == Precision::tiles) rounded.to_halves(x, rows, in);
  }

  // Take weights that are floats, or the upper halves of them.
  template <class Number>
  void pack(Arena& arena, const Number* from, int out_, int in_, const float* bias_, Precision precision_) {
    lay_out(arena, out_, in_, bias_, precision_);
    if (integers()) throw std::invalid_argument("integer weights are packed from codes and scales");
    for (int panel = 0; panel < panels; panel++) {
      char* to = weights + panel * panel_bytes;
      if (precision == Precision::tiles) pack_tiles(from, panel, to);
      else pack_floats(from, panel, to);
    }
  }

  void pack(Arena& arena, const Codes& from, int out_, int in_, const float* bias_, Precision precision_) {
    lay_out(arena, out_, in_, bias_, precision_);
    if (!integers()) throw std::invalid_argument("codes and scales are of integer weights");
    if (from.group < GROUP || from.group % GROUP != 0) throw std::invalid_argument("groups are multiples of 32");
    for (int panel = 0; panel < panels; panel++) pack_integers(from, panel, weights + panel * panel_bytes);
  }

  size_t bytes() const { return size_t(panels) * panel_bytes; }

 private:
  void lay_out(Arena& arena, int out_, int in_, const float* bias_, Precision precision_) {
    in = in_, out = out_, precision = precision_;
    panels = (out + COLUMNS - 1) / COLUMNS;
    const int groups = (in + GROUP - 1) / GROUP;
    switch (precision) {
      case Precision::float32: panel_bytes = size_t(in) * COLUMNS * 4; break;
      case Precision::bfloat16: panel_bytes = size_t(in) * COLUMNS * 2; break;
      case Precision::int8: panel_bytes = size_t(groups) * (GROUP * COLUMNS + W * 4); break;
      case Precision::int4: panel_bytes = size_t(groups) * (GROUP * COLUMNS / 2 + W * 4); break;
      case Precision::tiles:
        if (!TILES) throw std::invalid_argument("these kernels were built without tiles");
        panel_bytes = size_t(groups) * 2 * TILE_BYTES;
        break;
    }
    weights = arena.take(bytes());
    bias.clear();
    if (bias_ != nullptr) {
      bias.assign(size_t(panels) * COLUMNS, 0);
      std::copy(bias_, bias_ + out, bias.begin());
    }
  }

  template <class Number>
  float weight(const Number* from, int column, int k) const {
    return column < out ? widen(from[size_t(column) * in + k]) : 0;
  }

  template <class Number>
  void pack_floats(const Number* from, int panel, char* to) const {
    for (int k = 0; k < in; k++) {
      for (int lane = 0; lane < COLUMNS; lane++) {
        float x = weight(from, panel * COLUMNS + lane, k);
        if (precision == Precision::float32) {
          reinterpret_cast<float*>(to)[size_t(k) * COLUMNS + lane] = x;
        } else {
          narrow(x, reinterpret_cast<Half*>(to) + size_t(k) * COLUMNS + 2 * (lane % W) + lane / W);
        }
      }
    }
  }

  template <class Number>
  void pack_tiles(const Number* from, int panel, char* to) const {
    for (int k = 0; k < in; k++) {
      for (int lane = 0; lane < COLUMNS; lane++) {
        Half* tile = reinterpret_cast<Half*>(to + (k / GROUP * 2 + lane / W) * TILE_BYTES);
        narrow(weight(from, panel * COLUMNS + lane, k), tile + (k % GROUP / 2 * W + lane % W) * 2 + k % 2);
      }
    }
  }

  // What lies beyond the last row or k stays zero, and meets activations or scales of zero.
  void pack_integers(const Codes& from, int panel, char* to) const {
    const bool bytes = precision == Precision::int8;
    const int step = bytes ? 4 : 8;  // k of four bytes
    const size_t row_bytes = bytes ? in : (in + 1) / 2, groups = (in + from.group - 1) / from.group;
    for (int start = 0; start < in; start += GROUP) {
      const int last = std::min(panel * COLUMNS + COLUMNS, out);
      for (int column = panel * COLUMNS; column < last; column++) {
        const int lane = column % COLUMNS;
        const uint8_t* row = from.codes + column * row_bytes;
        for (int k = 0; k < GROUP && start + k < in; k += step) {
          const size_t at = bytes ? start + k : (start + k) / 2;
          uint8_t word[4] = {};
          std::memcpy(word, row + at, std::min<size_t>(4, row_bytes - at));
          if (!bytes) part_nibbles(word);
          std::memcpy(to + k / step * COLUMNS * 4 + lane * 4, word, 4);
        }
        Half* scales = reinterpret_cast<Half*>(to + GROUP / step * COLUMNS * 4);
        scales[2 * (lane % W) + lane / W] = from.scales[column * groups + start / from.group];
      }
      to += GROUP / step * COLUMNS * 4 + W * 4;
    }
  }

  // From (k, k + 1), (k + 2, k + 3), ... to (k, k + 4), (k + 1, k + 5), ...
  static void part_nibbles(uint8_t* w) {
    const uint8_t parted[4] = {uint8_t((w[0] & 15) | w[2] << 4), uint8_t(w[0] >> 4 | (w[2] & 240)),
                               uint8_t((w[1] & 15) | w[3] << 4), uint8_t(w[1] >> 4 | (w[3] & 240))};
    std::memcpy(w, parted, 4);
  }
};

}  // namespace byollm
