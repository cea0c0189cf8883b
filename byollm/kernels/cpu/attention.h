// Attention of a few queries of one sequence over the blocks that hold its keys and values.
//
//   keys    (blocks, kv_heads, head_dim, BLOCK)       the tokens of a block side by side
//   values  (blocks, kv_heads, BLOCK, padded head_dim)
#pragma once

#include "simd.h"

namespace byollm {

constexpr int BLOCK = 16;  // tokens
constexpr int QUERIES = 6;  // at a time

inline int padded(int head_dim) { return (head_dim + 15) / 16 * 16; }

template <class Number>
struct Pages {
  Number* keys;
  Number* values;
  int kv_heads, head_dim;

  Number* key_page(int block, int head) const {
    return keys + (size_t(block) * kv_heads + head) * head_dim * BLOCK;
  }
  Number* value_page(int block, int head) const {
    return values + (size_t(block) * kv_heads + head) * BLOCK * padded(head_dim);
  }
  void store(int block, int head, int slot, const float* key, const float* value) const {
    Number* k = key_page(block, head) + slot;
    Number* v = value_page(block, head) + slot * padded(head_dim);
    for (int i = 0; i < head_dim; i++) narrow(key[i], k + i * BLOCK), narrow(value[i], v + i);
  }
};

// A query: its vector, already scaled, the keys [from, to) that it sees, and where its result goes.
struct Query {
  const float* vector;
  int from, to;
  float* out;
};

// `scores` holds M rows of as many floats as keys are visited.
template <int M, class Number>
void attend(const Query* queries, const Pages<Number>& pages, int head, const int* table, float* scores) {
  constexpr int PARTS = BLOCK / W;
  int first = queries[0].from, last = queries[0].to;
  for (int m = 1; m < M; m++) first = std::min(first, queries[m].from), last = std::max(last, queries[m].to);
  const int first_block = first / BLOCK, blocks = (last + BLOCK - 1) / BLOCK - first_block;
  const size_t length = size_t(blocks) * BLOCK;

  for (int b = 0; b < blocks; b++) {
    const Number* keys = pages.key_page(table[first_block + b], head);
    const Number* next = pages.key_page(table[first_block + std::min(b + 1, blocks - 1)], head);
    Floats sums[M][PARTS];
    UNROLLED for (int m = 0; m < M; m++)
      UNROLLED for (int part = 0; part < PARTS; part++) sums[m][part] = zeros();
    for (int i = 0; i < pages.head_dim; i++) {
      __builtin_prefetch(next + i * BLOCK);  // pages lie anywhere, so the hardware cannot foresee them
      Floats k[PARTS];
      UNROLLED for (int part = 0; part < PARTS; part++) k[part] = read(keys + i * BLOCK + part * W);
      UNROLLED for (int m = 0; m < M; m++) {
        Floats q = spread(queries[m].vector[i]);
        UNROLLED for (int part = 0; part < PARTS; part++) sums[m][part] = fma(q, k[part], sums[m][part]);
      }
    }
    UNROLLED for (int m = 0; m < M; m++)
      UNROLLED for (int part = 0; part < PARTS; part++) write(scores + m * length + b * BLOCK + part * W, sums[m][part]);
  }

  float inverse[M];
  UNROLLED for (int m = 0; m < M; m++) {
    float* row = scores + m * length;
    const int from = queries[m].from - first_block * BLOCK, count = queries[m].to - queries[m].from;
    Floats most = spread(row[from]);
    each(row + from, count, [&](int, Floats x, int n) {
      if (n == W) most = larger(x, most);
    });
    float peak = largest(most);
    for (int i = count / W * W; i < count; i++) peak = std::max(peak, row[from + i]);
    float total = 0;
    Floats totals = zeros();
    each(row + from, count, [&](int i, Floats x, int n) {
      Floats p = exponential(x - spread(peak));
      put(row + from + i, p, n);
      if (n == W) totals = totals + p;
    });
    for (int i = count / W * W; i < count; i++) total += row[from + i];
    inverse[m] = 1 / (total + sum(totals));
    std::fill(row, row + from, 0.0f);
    std::fill(row + from + count, row + length, 0.0f);
  }

  const int stride = padded(pages.head_dim);
  for (int column = 0; column < pages.head_dim; column += 2 * W) {
    const bool wide = column + W < stride;
    Floats sums[M][2];
    UNROLLED for (int m = 0; m < M; m++) sums[m][0] = sums[m][1] = zeros();
    for (int b = 0; b < blocks; b++) {
      const Number* values = pages.value_page(table[first_block + b], head) + column;
      const Number* next = pages.value_page(table[first_block + std::min(b + 1, blocks - 1)], head) + column;
      const int tokens = std::min(BLOCK, last - (first_block + b) * BLOCK);
      for (int t = 0; t < tokens; t++) {
        __builtin_prefetch(next + t * stride);
        Floats v[2] = {read(values + t * stride), wide ? read(values + t * stride + W) : zeros()};
        UNROLLED for (int m = 0; m < M; m++) {
          Floats p = spread(scores[m * length + b * BLOCK + t]);
          sums[m][0] = fma(p, v[0], sums[m][0]), sums[m][1] = fma(p, v[1], sums[m][1]);
        }
      }
    }
    UNROLLED for (int m = 0; m < M; m++) {
      UNROLLED for (int half = 0; half < 2; half++) {
        int at = column + half * W, count = std::min(W, pages.head_dim - at);
        if (count > 0) put(queries[m].out + at, sums[m][half] * spread(inverse[m]), count);
      }
    }
  }
}

template <class Number>
void attend(int count, const Query* queries, const Pages<Number>& pages, int head, const int* table, float* scores) {
  switch (count) {
    case 1: return attend<1>(queries, pages, head, table, scores);
    case 2: return attend<2>(queries, pages, head, table, scores);
    case 3: return attend<3>(queries, pages, head, table, scores);
    case 4: return attend<4>(queries, pages, head, table, scores);
    case 5: return attend<5>(queries, pages, head, table, scores);
    case 6: return attend<6>(queries, pages, head, table, scores);
  }
}

}  // namespace byollm
