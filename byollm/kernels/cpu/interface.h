// The C interface of the library; library.py declares the same for Python.
#pragma once

#include <cstdint>

namespace byollm {

class Model;

enum class Precision : int32_t { float32, bfloat16, int8, int4, tiles };  // of stored weights; linear.h has more

struct Shape {
  int32_t vocab, hidden, layers, heads, kv_heads, head_dim, inner, rotary_pairs;
  int32_t layer_norm;  // else root mean square
  int32_t gated;       // SiLU gate; else GELU
  int32_t parallel;    // attention and MLP read the same input
  int32_t half_cache;  // bfloat16 keys and values, else float32
  float eps;
};

// Tokens of some sequences, computed together.
struct Batch {
  int32_t tokens;             // rows
  const int32_t* ids;         // (tokens,)
  const int32_t* positions;   // (tokens,)
  int32_t spans;              // sequences; the rows of a span are consecutive tokens of one sequence
  const int32_t* first_rows;  // (spans + 1,)
  const int32_t* tables;      // block ids of all spans
  const int32_t* first_ids;   // (spans,): where a span's block ids begin in `tables`
  void* const* keys;          // of each layer (blocks, kv_heads, head_dim, 16)
  void* const* values;        // of each layer (blocks, kv_heads, 16, head_dim up to a multiple of 16)
  int32_t outputs;
  const int32_t* output_rows;  // (outputs,): rows whose scores are wanted
  float* scores;               // (outputs, vocab)
  float* hidden;               // (tokens, hidden) after the last norm, or null
  const int32_t* slots;        // (spans,): whose adapter a span is read with, -1: nobody's; null: nobody's at all
};

// How the next token of a row of scores is chosen.
struct Choice {
  uint64_t seed;      // of its random numbers
  float temperature;  // 0: the best
  float top_p, min_p;
  int32_t top_k;  // 0: all
};

}  // namespace byollm

// Those that return an int32_t return 0 when all went well.
extern "C" {

// Whether this library can multiply with the tiles of AMX, and the system lets this process do so. It has to be
// asked before `Precision::tiles` is used.
int32_t byollm_tiles();

const char* byollm_failure();  // of the calling thread's last call

byollm::Model* byollm_new(const byollm::Shape* shape, int32_t threads);  // null: it failed
void byollm_free(byollm::Model* model);

// name: qkv, o, up, down of a layer, or head; weight (out, in), float32 or if `half` bfloat16, and bias (out,) or
// null are copied. Precision: not int8, int4.
int32_t byollm_linear(byollm::Model* model, int32_t layer, const char* name, const void* weight, int32_t half,
                      int32_t out, int32_t in, const float* bias, int32_t precision);

// The same of weights that are integers, a byte each with int8; with int4 two to a byte, the earlier in the low half,
// 8 more than they are. scales (out, groups): bfloat16, one for every `group` of a row's weights, a multiple of 32.
int32_t byollm_packed(byollm::Model* model, int32_t layer, const char* name, const uint8_t* codes,
                      const uint16_t* scales, int32_t group, int32_t out, int32_t in, const float* bias,
                      int32_t precision);

// Take out of a slot, from 0 on, what it holds; no adapter is put into one that was not vacated.
int32_t byollm_vacate(byollm::Model* model, int32_t slot);

// Put what an adapter adds to a product of a layer into a slot: y += b (a x). name: qkv, o, up, down; a (rank, in),
// those of all its targets one above the other, is copied, as float32 or bfloat16.
int32_t byollm_adapter(byollm::Model* model, int32_t slot, int32_t layer, const char* name, const float* a,
                       int32_t rank, int32_t precision);

// Then for each target its b (out, rank): the product's columns from `column` on, and a's rows from `first` on.
int32_t byollm_adapter_target(byollm::Model* model, int32_t slot, int32_t layer, const char* name, int32_t column,
                              int32_t first, const float* b, int32_t out, int32_t rank, int32_t precision);

// name: before, before_bias, after, after_bias, q_norm, k_norm of a layer, or last, last_bias, cos, sin.
int32_t byollm_vector(byollm::Model* model, int32_t layer, const char* name, const float* values, int64_t size);

// How many keys a position of a layer sees; 0: all, which is so from the start.
int32_t byollm_window(byollm::Model* model, int32_t layer, int32_t window);

// name: tokens or positions; rows (count, hidden) and scales (count, groups) stay the caller's and must outlive the
// model. Precision: float32, bfloat16, or int8 with a scale, bfloat16, for every `group` of a row.
int32_t byollm_table(byollm::Model* model, const char* name, const void* rows, int32_t precision,
                     const uint16_t* scales, int32_t group);

int32_t byollm_forward(byollm::Model* model, const byollm::Batch* batch);

// Choose a token for each row of scores (rows, vocab), -1 where they are not numbers. positions (rows,): where in
// its sequence the token is to stand.
int32_t byollm_choose(const float* scores, int32_t rows, int32_t vocab, const byollm::Choice* choices,
                      const int32_t* positions, int32_t* tokens);

// Seconds of the calling thread in each part of all steps so far, waiting for the others included.
void byollm_profile(const byollm::Model* model, double* seconds);
}
