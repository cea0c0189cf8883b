// Vectors of floats, as wide as the instruction set this file is compiled for, and what is done with them.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

// Loops over what lives in registers must disappear; loops around them must not, or registers run out.
#define UNROLLED _Pragma("GCC unroll 8")
#define ROLLED _Pragma("GCC unroll 1")

namespace byollm {

#if defined(__AVX512F__)
constexpr int W = 16;  // floats of a vector
using Floats = __m512;
using Ints = __m512i;
#else
constexpr int W = 8;
using Floats = __m256;
using Ints = __m256i;
#endif

#if defined(__AVX512F__)
inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats spread(float x) { return _mm512_set1_ps(x); }
inline Floats read(const float* p) { return _mm512_loadu_ps(p); }
inline void write(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Ints read_ints(const void* p) { return _mm512_loadu_si512(p); }
inline Ints spread_int(int32_t x) { return _mm512_set1_epi32(x); }
inline Floats as_floats(Ints x) { return _mm512_castsi512_ps(x); }
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }
inline Ints shift_left(Ints x, int bits) { return _mm512_slli_epi32(x, bits); }
inline Ints shift_right(Ints x, int bits) { return _mm512_srli_epi32(x, bits); }
inline Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
inline Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints add_shorts(Ints a, Ints b) { return _mm512_add_epi16(a, b); }
inline Ints minus_ints(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints widen_shorts(const uint16_t* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
// Products of unsigned and signed bytes, added in pairs: shorts.
inline Ints multiply_bytes(Ints u, Ints s) { return _mm512_maddubs_epi16(u, s); }
inline Ints pair_shorts(Ints x) { return _mm512_madd_epi16(x, _mm512_set1_epi16(1)); }
// The same, added up by four.
#if defined(__AVX512VNNI__)
inline Ints add_products(Ints sum, Ints u, Ints s) { return _mm512_dpbusd_epi32(sum, u, s); }
#else
inline Ints add_products(Ints sum, Ints u, Ints s) { return add_ints(sum, pair_shorts(multiply_bytes(u, s))); }
#endif
inline Ints absolute_bytes(Ints x) { return _mm512_abs_epi8(x); }
inline Ints signed_by(Ints x, Ints by) {
  return _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(by), _mm512_setzero_si512(), x);
}
inline float sum(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largest(Floats x) { return _mm512_reduce_max_ps(x); }
#else
inline Floats zeros() { return _mm256_setzero_ps(); }
inline Floats spread(float x) { return _mm256_set1_ps(x); }
inline Floats read(const float* p) { return _mm256_loadu_ps(p); }
inline void write(float* p, Floats x) { _mm256_storeu_ps(p, x); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Ints read_ints(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Ints spread_int(int32_t x) { return _mm256_set1_epi32(x); }
inline Floats as_floats(Ints x) { return _mm256_castsi256_ps(x); }
inline Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
inline Ints to_ints(Floats x) { return _mm256_cvtps_epi32(x); }
inline Ints shift_left(Ints x, int bits) { return _mm256_slli_epi32(x, bits); }
inline Ints shift_right(Ints x, int bits) { return _mm256_srli_epi32(x, bits); }
inline Ints both(Ints a, Ints b) { return _mm256_and_si256(a, b); }
inline Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints add_shorts(Ints a, Ints b) { return _mm256_add_epi16(a, b); }
inline Ints minus_ints(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
inline Ints widen_shorts(const uint16_t* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)); }
inline Ints multiply_bytes(Ints u, Ints s) { return _mm256_maddubs_epi16(u, s); }
inline Ints pair_shorts(Ints x) { return _mm256_madd_epi16(x, _mm256_set1_epi16(1)); }
inline Ints add_products(Ints sum, Ints u, Ints s) { return add_ints(sum, pair_shorts(multiply_bytes(u, s))); }
inline Ints absolute_bytes(Ints x) { return _mm256_abs_epi8(x); }
inline Ints signed_by(Ints x, Ints by) { return _mm256_sign_epi8(x, by); }
inline float sum(Floats x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float largest(Floats x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
#endif

// exp(x), to about 2 units in the last place (Cephes' polynomial); what is not a number stays so.
inline Floats exponential(Floats x) {
  const Floats low = spread(-87.33f), high = spread(88.37f);
  Floats bounded = smaller(high, larger(low, x));  // the second operand wins where x is not a number
  Ints n = to_ints(bounded * spread(1.44269504f));
  Floats whole = to_floats(n);
  Floats r = fma(whole, spread(-0.693359375f), bounded);
  r = fma(whole, spread(2.12194440e-4f), r);
  Floats p = spread(1.9875691500e-4f);
  p = fma(p, r, spread(1.3981999507e-3f));
  p = fma(p, r, spread(8.3334519073e-3f));
  p = fma(p, r, spread(4.1665795894e-2f));
  p = fma(p, r, spread(1.6666665459e-1f));
  p = fma(p, r, spread(5.0000001201e-1f));
  p = fma(p, r * r, r + spread(1.0f));
  return p * as_floats(shift_left(add_ints(n, spread_int(127)), 23));
}

// Stored numbers of a cache or of weights: float, or the upper half of one.
using Half = uint16_t;  // bfloat16

inline Floats read(const Half* p) { return as_floats(shift_left(widen_shorts(p), 16)); }
inline float widen(float x) { return x; }
inline float widen(Half x) {
  uint32_t bits = uint32_t(x) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
inline void narrow(float x, float* to) { *to = x; }
inline void narrow(float x, Half* to) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  *to = std::isnan(x) ? 0x7fc0 : Half((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// One vector at a time over `size` elements, the last one padded with zeros: f(vector, count of real elements).
template <class F>
inline void each(const float* x, int size, F f) {
  int i = 0;
  for (; i + W <= size; i += W) f(i, read(x + i), W);
  if (i < size) {
    float rest[W] = {};
    std::memcpy(rest, x + i, sizeof(float) * (size - i));
    f(i, read(rest), size - i);
  }
}

inline void put(float* to, Floats x, int count) {
  if (count == W) return write(to, x);
  float rest[W];
  write(rest, x);
  std::memcpy(to, rest, sizeof(float) * count);
}

}  // namespace byollm
