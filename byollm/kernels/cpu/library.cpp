// The library behind interface.h.

#include "decoder.h"
#include "sampling.h"

#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace byollm;

namespace {
thread_local std::string failure;

template <class F>
int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    failure = error.what();
    return 1;
  }
}

std::vector<float> vector_of(const float* from, int64_t size) { return {from, from + size}; }
}  // namespace

extern "C" {

int32_t byollm_tiles() {
#if defined(__AMX_BF16__)
  // Linux keeps tiles switched off in a process that has not asked for the larger state of its threads.
  constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return 0;
#endif
}

const char* byollm_failure() { return failure.c_str(); }

Model* byollm_new(const Shape* shape, int32_t threads) {
  Model* model = nullptr;
  guarded([&] { model = new Model(*shape, threads); });
  return model;
}

void byollm_free(Model* model) { delete model; }

int32_t byollm_linear(Model* model, int32_t layer, const char* name, const float* weight, int32_t out, int32_t in,
                      const float* bias, int32_t precision) {
  return guarded([&] {
    std::string which = name;
    Layer* l = which == "head" ? nullptr : &model->layers.at(layer);
    Linear& linear = which == "head" ? model->head : which == "qkv" ? l->qkv : which == "o" ? l->o : which == "up" ? l->up : l->down;
    linear.pack(weight, out, in, bias, Precision(precision));
  });
}

int32_t byollm_vector(Model* model, int32_t layer, const char* name, const float* values, int64_t size) {
  return guarded([&] {
    std::string which = name;
    auto values_ = vector_of(values, size);
    if (which == "last") model->last.weight = values_;
    else if (which == "last_bias") model->last.bias = values_;
    else if (which == "cos") model->cos = values_;
    else if (which == "sin") model->sin = values_;
    else {
      Layer& l = model->layers.at(layer);
      (which == "before" ? l.before.weight : which == "before_bias" ? l.before.bias : which == "after" ? l.after.weight
       : which == "after_bias" ? l.after.bias : which == "q_norm" ? l.q_norm : l.k_norm) = values_;
    }
  });
}

int32_t byollm_window(Model* model, int32_t layer, int32_t window) {
  return guarded([&] { model->layers.at(layer).window = window; });
}

void byollm_tables(Model* model, const void* tokens, const void* positions, int32_t half) {
  model->tokens = {tokens, half != 0};
  model->positions = {positions, half != 0};
}

int32_t byollm_forward(Model* model, const Batch* batch) {
  return guarded([&] { model->forward(*batch); });
}

int32_t byollm_choose(const float* scores, int32_t rows, int32_t vocab, const Choice* choices,
                      const int32_t* positions, int32_t* tokens) {
  return guarded([&] {
    static thread_local Sampler sampler;
    for (int row = 0; row < rows; row++)
      tokens[row] = sampler.choose(scores + size_t(row) * vocab, vocab, choices[row], positions[row]);
  });
}

void byollm_profile(const Model* model, double* seconds) { std::copy(model->seconds, model->seconds + PARTS, seconds); }

}  // extern "C"
