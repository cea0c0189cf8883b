// Rows of activations in fewer bits.
#pragma once

#include <algorithm>

#include "memory.h"
#include "simd.h"

namespace byollm {

constexpr int GROUP = 32;  // k that share a scale, or a tile

struct Rounded {
  int groups = 0;

  // Bytes, with a scale for each group.
  Memory<int8_t> bytes;  // (rows, groups * GROUP)
  Memory<float> scales;  // (rows, groups)
  Memory<int32_t> sums;  // (rows, groups): 8 times the sum of the bytes, which int4's offset adds

  void to_bytes(const float* x, int rows, int in) {
    groups = (in + GROUP - 1) / GROUP;
    int8_t* q = bytes.at_least(size_t(rows) * groups * GROUP);
    float* s = scales.at_least(size_t(rows) * groups);
    int32_t* t = sums.at_least(size_t(rows) * groups);
    for (int row = 0; row < rows; row++) {
      for (int group = 0; group < groups; group++, q += GROUP, s++, t++) {
        const float* from = x + size_t(row) * in + group * GROUP;
        int count = std::min(GROUP, in - group * GROUP);
        Floats most = zeros(), strange = zeros();
        each(from, count, [&](int, Floats v, int) {
          most = larger(most, larger(v, zeros() - v));
          strange = strange + (v - v);  // a row that is not finite must not become one that is
        });
        const float peak = largest(most), inverse = peak > 0 ? 127 / peak : 0;
        int32_t total = 0;
        for (int i = 0; i < count; i++) total += q[i] = int8_t(std::lrintf(from[i] * inverse));
        std::memset(q + count, 0, GROUP - count);
        const float scale = peak / 127 + sum(strange);
        *s = scale;
        *t = 8 * total;
      }
    }
  }

  // bfloat16, with rows enough for whole tiles; what those hold that were not given, nobody reads.
  Memory<Half> halves;  // (rows up to a multiple of 16, groups * GROUP)

  void to_halves(const float* x, int rows, int in) {
    groups = (in + GROUP - 1) / GROUP;
    const size_t width = size_t(groups) * GROUP;
    Half* to = halves.at_least((rows + 15) / 16 * 16 * width);
    for (int row = 0; row < rows; row++, x += in, to += width) {
      for (int i = 0; i < in; i++) narrow(x[i], to + i);
      std::memset(to + in, 0, sizeof(Half) * (width - in));
    }
  }
};

}  // namespace byollm
