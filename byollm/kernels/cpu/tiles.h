// Products in tiles of AMX: registers of 16 rows of 64 bytes.
//
// A tile of activations holds 16 rows of 32 k, one of weights 32 k for 16 columns (a row of it has two k of every
// column side by side), one of sums 16 rows of 16 columns. To each sum the processor adds at a time the products of
// even k and those of odd k, each in order of k, whatever is in other rows: so here too a row's result does not
// depend on its neighbours. Products and sums are float32, with what is below the least normal number taken as zero.
#pragma once

#include "simd.h"

namespace byollm {

constexpr int TILE_ROWS = 16;
constexpr int TILE_BYTES = 1024;

#if defined(__AMX_BF16__)
constexpr bool TILES = true;

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, unused[15] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
inline constexpr TileConfiguration EIGHT_TILES;

// Tiles work in the current thread for as long as this lives.
class TilesInUse {
 public:
  TilesInUse() {
    _tile_loadconfig(&EIGHT_TILES);
    asm volatile("" ::: "memory");  // gcc does not know that loading a tile reads memory
  }
  ~TilesInUse() { _tile_release(); }
  TilesInUse(const TilesInUse&) = delete;

};

// x (16 rows, or 32 if `two`; stride) times a panel of 32 columns: sums (rows, 32).
inline void multiply_tiles(const Half* x, size_t stride, bool two, const char* panel, int steps, float* sums) {
  const size_t bytes = stride * sizeof(Half), sums_bytes = 2 * TILE_ROWS * sizeof(float);
  _tile_zero(0);
  _tile_zero(1);
  if (two) {
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; step++, x += 32, panel += 2 * TILE_BYTES) {
      _tile_loadd(4, x, bytes);
      _tile_loadd(6, panel, 64);
      _tile_loadd(7, panel + TILE_BYTES, 64);
      _tile_loadd(5, x + TILE_ROWS * stride, bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(2, sums + TILE_ROWS * 32, sums_bytes);
    _tile_stored(3, sums + TILE_ROWS * 32 + 16, sums_bytes);
  } else {
    for (int step = 0; step < steps; step++, x += 32, panel += 2 * TILE_BYTES) {
      _tile_loadd(4, x, bytes);
      _tile_loadd(6, panel, 64);
      _tile_loadd(7, panel + TILE_BYTES, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
  }
  _tile_stored(0, sums, sums_bytes);
  _tile_stored(1, sums + 16, sums_bytes);
}
#else
constexpr bool TILES = false;
struct TilesInUse {};
inline void multiply_tiles(const Half*, size_t, bool, const char*, int, float*) {}
#endif

}  // namespace byollm
