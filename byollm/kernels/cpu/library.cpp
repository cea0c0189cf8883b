// The library behind interface.h.

#include "sampling.h"
#include "step.h"

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

Linear& linear_of(Model* model, int32_t layer, const std::string& name) {
  if (name == "head") return model->head;
  return model->layers.at(layer).named(name);
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

int32_t byollm_linear(Model* model, int32_t layer, const char* name, const void* weight, int32_t half, int32_t out,
                      int32_t in, const float* bias, int32_t precision) {
  return guarded([&] {
    Linear& linear = linear_of(model, layer, name);
    if (half) linear.pack(model->weights, static_cast<const Half*>(weight), out, in, bias, Precision(precision));
    else linear.pack(model->weights, static_cast<const float*>(weight), out, in, bias, Precision(precision));
  });
}

int32_t byollm_packed(Model* model, int32_t layer, const char* name, const uint8_t* codes, const uint16_t* scales,
                      int32_t group, int32_t out, int32_t in, const float* bias, int32_t precision) {
  return guarded([&] {
    linear_of(model, layer, name).pack(model->weights, Codes{codes, scales, group}, out, in, bias, Precision(precision));
  });
}

int32_t byollm_vacate(Model* model, int32_t slot) {
  return guarded([&] { model->vacate(slot); });
}

int32_t byollm_adapter(Model* model, int32_t slot, int32_t layer, const char* name, const float* a, int32_t rank,
                       int32_t precision) {
  return guarded([&] { model->adapt(slot, model->layers.at(layer).named(name), a, rank, Precision(precision)); });
}

int32_t byollm_adapter_target(Model* model, int32_t slot, int32_t layer, const char* name, int32_t column,
                              int32_t first, const float* b, int32_t out, int32_t rank, int32_t precision) {
  return guarded([&] {
    model->adapt(slot, model->layers.at(layer).named(name), column, first, b, out, rank, Precision(precision));
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

int32_t byollm_table(Model* model, const char* name, const void* rows, int32_t precision, const uint16_t* scales,
                     int32_t group) {
  return guarded([&] {
    (std::string(name) == "tokens" ? model->tokens : model->positions) = {rows, Precision(precision), scales, group};
  });
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
