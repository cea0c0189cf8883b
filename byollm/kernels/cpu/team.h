// Threads that run one function together, with barriers inside it.
#pragma once

#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace byollm {

// The caller is thread 0; the others wait for it, awake for a moment and then asleep.
class Team {
 public:
  explicit Team(int size) : size_(size) {
    for (int number = 1; number < size; number++) threads_.emplace_back([this, number] { serve(number); });
  }

  ~Team() {
    ending_ = true;
    started_.fetch_add(1);
    started_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  int size() const { return size_; }

  // Call f(number) on every thread and return when all are done.
  void run(const std::function<void(int)>& f) {
    work_ = &f;
    started_.fetch_add(1, std::memory_order_release);
    if (size_ > 1) started_.notify_all();
    f(0);
    barrier();
  }

  // Wait until every thread is here.
  void barrier() {
    if (size_ == 1) return;
    int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++) pause(spins);
  }

 private:
  static constexpr int PATIENCE = 2000;   // turns before the processor is offered to others
  static constexpr int WAKEFUL = 20000;  // turns between steps before sleep: about as long as Python needs

  static void pause(int spins) {
    if (spins < PATIENCE) {
      _mm_pause();
    } else {
      sched_yield();  // the thread waited for may need this very core
    }
  }

  void serve(int number) {
    for (int seen = 0;;) {
      for (int spins = 0; started_.load(std::memory_order_acquire) == seen && spins < WAKEFUL; spins++) _mm_pause();
      started_.wait(seen, std::memory_order_acquire);
      if (ending_) return;
      seen++;
      (*work_)(number);
      barrier();
    }
  }

  const int size_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<int> started_{0};
  std::atomic<bool> ending_{false};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> round_{0};
};

}  // namespace byollm
