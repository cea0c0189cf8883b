// Products with packed weights: y = x W^T + b.
//
// With float32 and bfloat16 weights the products are of floats. With int8 and int4 the activations of a row are
// rounded to bytes, with one scale for each group of 32, and the products within a group are exact integers. With
// tiles they are rounded to bfloat16.
#pragma once

#include "panels.h"

namespace byollm {

// The products of M rows with P neighbouring panels, in registers.
//
// Every sum waits for itself at each k. Where there are too few to fill that time, they are parted: into those of
// even and of odd k.
template <int M, int P, bool PARTED = false>
struct Tile {
  using Sums = Floats[M][P][2];

  Sums sums;

  static void clear(Sums& sums) {
    UNROLLED for (int m = 0; m < M; m++)
      UNROLLED for (int p = 0; p < P; p++) sums[m][p][0] = sums[m][p][1] = zeros();
  }

  template <Precision F>
  void multiply(const Linear& linear, int panel, const float* x, size_t stride, const Rounded& rounded, int row) {
    clear(sums);
    const char* w = linear.weights + panel * linear.panel_bytes;
    if constexpr (F == Precision::float32 || F == Precision::bfloat16) {
      multiply_floats<F>(w, linear.panel_bytes, x + row * stride, stride, linear.in);
    } else {
      multiply_integers<F>(w, linear.panel_bytes, rounded, row);
    }
  }

  template <Precision F>
  void multiply_floats(const char* w, size_t panel_bytes, const float* x, size_t stride, int in) {
    auto add = [&](Sums& to, int k) {
      Floats b[P][2];
      UNROLLED for (int p = 0; p < P; p++) {
        if constexpr (F == Precision::float32) {
          const float* from = reinterpret_cast<const float*>(w + p * panel_bytes) + size_t(k) * COLUMNS;
          b[p][0] = read(from), b[p][1] = read(from + W);
        } else {
          Ints words = read_ints(w + p * panel_bytes + size_t(k) * COLUMNS * 2);
          b[p][0] = as_floats(shift_left(words, 16)), b[p][1] = as_floats(both(words, spread_int(int32_t(0xffff0000))));
        }
      }
      UNROLLED for (int m = 0; m < M; m++) {
        Floats a = spread(x[m * stride + k]);
        UNROLLED for (int p = 0; p < P; p++)
          UNROLLED for (int half = 0; half < 2; half++) to[m][p][half] = fma(a, b[p][half], to[m][p][half]);
      }
    };
    int k = 0;
    if constexpr (PARTED) {
      Sums odd;
      clear(odd);
      for (; k + 1 < in; k += 2) add(sums, k), add(odd, k + 1);
      UNROLLED for (int m = 0; m < M; m++)
        UNROLLED for (int p = 0; p < P; p++)
          UNROLLED for (int half = 0; half < 2; half++) sums[m][p][half] = sums[m][p][half] + odd[m][p][half];
    }
    for (; k < in; k++) add(sums, k);
  }

  template <Precision F>
  void multiply_integers(const char* w, size_t panel_bytes, const Rounded& rounded, int row) {
    constexpr int STEP = F == Precision::int8 ? 4 : 8;  // k of one word
    const int groups = rounded.groups;
    const size_t stride = size_t(groups) * GROUP;
    const int8_t* x = rounded.bytes.data + row * stride;
    const Ints nibble = spread_int(0x0f0f0f0f), upper = spread_int(int32_t(0xffff0000));
    for (int group = 0; group < groups; group++, x += GROUP) {
      Ints dots[M][P][2];
      UNROLLED for (int m = 0; m < M; m++)
        UNROLLED for (int p = 0; p < P; p++) dots[m][p][0] = dots[m][p][1] = spread_int(0);
      ROLLED for (int k = 0; k < GROUP; k += STEP, w += COLUMNS * 4) {
        UNROLLED for (int p = 0; p < P; p++) {
          UNROLLED for (int half = 0; half < 2; half++) {
            Ints words = read_ints(w + p * panel_bytes + half * W * 4);
            if constexpr (F == Precision::int8) {
              Ints size = absolute_bytes(words);
              UNROLLED for (int m = 0; m < M; m++) {
                dots[m][p][half] = add_products(dots[m][p][half], size, signed_by(four(x + m * stride + k), words));
              }
            } else {  // shorts hold a whole group: 32 / 2 products of at most 15 * 127 each
              Ints low = both(words, nibble), high = both(shift_right(words, 4), nibble);
              UNROLLED for (int m = 0; m < M; m++) {
                Ints products = multiply_bytes(low, four(x + m * stride + k));
                products = add_shorts(products, multiply_bytes(high, four(x + m * stride + k + 4)));
                dots[m][p][half] = add_shorts(dots[m][p][half], products);
              }
            }
          }
        }
      }
      UNROLLED for (int p = 0; p < P; p++) {
        Ints words = read_ints(w + p * panel_bytes);
        Floats scales[2] = {as_floats(shift_left(words, 16)), as_floats(both(words, upper))};
        UNROLLED for (int m = 0; m < M; m++) {
          size_t at = size_t(row + m) * groups + group;
          Floats scale = spread(rounded.scales.data[at]);
          UNROLLED for (int half = 0; half < 2; half++) {
            Ints dot = dots[m][p][half];
            if constexpr (F == Precision::int4) dot = minus_ints(pair_shorts(dot), spread_int(rounded.sums.data[at]));
            sums[m][p][half] = fma(to_floats(dot), scales[half] * scale, sums[m][p][half]);
          }
        }
      }
      w += W * 4;
    }
  }

  static Ints four(const int8_t* x) {
    int32_t word;
    std::memcpy(&word, x, 4);
    return spread_int(word);
  }

};

// Rows at a time for one panel: enough to use all registers, and as even as can be.
template <Precision F>
struct Widest {
  static constexpr bool FLOATS = F == Precision::float32 || F == Precision::bfloat16;
  static constexpr int ROWS = FLOATS ? 6 : 4;
  static constexpr int PANELS_OF_ONE = FLOATS ? 4 : 2;  // one row alone has too few sums to hide latency
};

struct Product {
  const Linear& linear;
  const float* x;
  size_t x_stride;
  int rows;
  float* y;
  size_t y_stride;
  bool add;
  const Rounded& rounded;

  // Compute the columns of panels first to last - 1.
  void run(int first, int last) const {
    switch (linear.precision) {
      case Precision::float32: return run<Precision::float32>(first, last);
      case Precision::bfloat16: return run<Precision::bfloat16>(first, last);
      case Precision::int8: return run<Precision::int8>(first, last);
      case Precision::int4: return run<Precision::int4>(first, last);
      case Precision::tiles: return run_tiles(first, last);
    }
  }

 private:
  static constexpr int BLOCK = 48;  // rows that stay in the cache while panels pass

  template <Precision F>
  void run(int first, int last) const {
    if (Widest<F>::FLOATS && linear.panels == 1) return run_narrow<F>();
    if (rows == 1) {
      constexpr int P = Widest<F>::PANELS_OF_ONE;
      int panel = first;
      for (; panel + P <= last; panel += P) tile<F, 1, P>(panel, 0);
      if (P > 3 && panel + 3 == last) return tile<F, 1, 3>(panel, 0);
      if (P > 2 && panel + 2 == last) return tile<F, 1, 2>(panel, 0);
      for (; panel < last; panel++) tile<F, 1, 1>(panel, 0);
      return;
    }
    for (int start = 0; start < rows; start += BLOCK) {
      int end = std::min(rows, start + BLOCK);
      for (int panel = first; panel < last; panel++) {
        int tiles = (end - start + Widest<F>::ROWS - 1) / Widest<F>::ROWS;
        for (int row = start; tiles > 0; tiles--) {
          int count = (end - row + tiles - 1) / tiles;
          some<F>(count, panel, row);
          row += count;
        }
      }
    }
  }

  // One panel gives few sums. How they are parted depends on the matrix alone: a row's numbers are the same among
  // any others.
  template <Precision F>
  void run_narrow() const {
    int row = 0;
    for (; row + 3 <= rows; row += 3) tile<F, 3, 1, true>(0, row);
    if (row + 2 == rows) tile<F, 2, 1, true>(0, row);
    if (row + 1 == rows) tile<F, 1, 1, true>(0, row);
  }

  template <Precision F>
  void some(int count, int panel, int row) const {
    switch (count) {
      case 1: return tile<F, 1, 1>(panel, row);
      case 2: return tile<F, 2, 1>(panel, row);
      case 3: return tile<F, 3, 1>(panel, row);
      case 4: return tile<F, 4, 1>(panel, row);
      case 5: return tile<F, 5, 1>(panel, row);
      case 6: return tile<F, 6, 1>(panel, row);
    }
  }

  template <Precision F, int M, int P, bool PARTED = false>
  void tile(int panel, int row) const {
    Tile<M, P, PARTED> tile;
    tile.template multiply<F>(linear, panel, x, x_stride, rounded, row);
    UNROLLED for (int p = 0; p < P; p++)
      UNROLLED for (int half = 0; half < 2; half++)
        UNROLLED for (int m = 0; m < M; m++) store(tile.sums[m][p][half], row + m, (panel + p) * COLUMNS + half * W);
  }

  void run_tiles(int first, int last) const {
    if constexpr (TILES) {
      [[maybe_unused]] const TilesInUse tiles;
      const size_t width = size_t(rounded.groups) * GROUP;
      alignas(LINE) float sums[2 * TILE_ROWS * COLUMNS];
      for (int start = 0; start < rows; start += BLOCK) {
        const int end = std::min(rows, start + BLOCK);
        for (int panel = first; panel < last; panel++) {
          const char* weights = linear.weights + panel * linear.panel_bytes;
          for (int row = start; row < end; row += 2 * TILE_ROWS) {
            const int count = std::min(2 * TILE_ROWS, end - row);
            multiply_tiles(rounded.halves.data + row * width, width, count > TILE_ROWS, weights, rounded.groups, sums);
            for (int m = 0; m < count; m++)
              for (int half = 0; half < 2; half++)
                store(read(sums + m * COLUMNS + half * W), row + m, panel * COLUMNS + half * W);
          }
        }
      }
    }
  }

  // Put sums where they belong, or add them to what is there.
  void store(Floats sums, int row, int column) const {
    const int count = std::min(W, linear.out - column);
    if (count <= 0) return;
    if (!linear.bias.empty()) sums = sums + read(linear.bias.data() + column);
    float* to = y + row * y_stride + column;
    if (add && count == W) {
      sums = sums + read(to);
    } else if (add) {
      float before[W] = {};
      std::memcpy(before, to, sizeof(float) * count);
      sums = sums + read(before);
    }
    put(to, sums, count);
  }
};

}  // namespace byollm
