// Memory for numbers.
#pragma once

#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace byollm {

constexpr int LINE = 64;  // bytes that the processor fetches together

template <class T>
struct Memory {  // aligned, zeroed, growing without keeping its contents
  T* data = nullptr;
  size_t size = 0;
  Memory() = default;
  Memory(const Memory&) = delete;
  ~Memory() { free(data); }
  T* at_least(size_t wanted) {
    if (wanted > size) {
      free(data);
      size = wanted;
      size_t bytes = (wanted * sizeof(T) + LINE - 1) / LINE * LINE;
      data = static_cast<T*>(aligned_alloc(LINE, bytes));
      if (data == nullptr) throw std::bad_alloc();
      std::memset(static_cast<void*>(data), 0, bytes);
    }
    return data;
  }
};

// Room for weights, zeroed and given back all at once.
//
// They are read from end to end at every step. In pages of 4 KB finding them takes up to a tenth of the time, so the
// system is asked for large ones.
class Arena {
 public:
  explicit Arena(size_t least) : least_(least) {}

  char* take(size_t bytes) {
    bytes = up(bytes, LINE);
    if (bytes > left_) {
      left_ = up(std::max(bytes, least_), LARGE);
      next_ = static_cast<char*>(aligned_alloc(LARGE, left_));
      if (next_ == nullptr) throw std::bad_alloc();
      pieces_.emplace_back(next_);
      madvise(next_, left_, MADV_HUGEPAGE);  // where there are none, small ones do
    }
    char* taken = next_;
    next_ += bytes, left_ -= bytes;
    std::memset(taken, 0, bytes);
    return taken;
  }

 private:
  static constexpr size_t LARGE = size_t(2) << 20;

  static size_t up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

  struct Free {
    void operator()(char* piece) const { free(piece); }
  };

  const size_t least_;
  std::vector<std::unique_ptr<char, Free>> pieces_;
  char* next_ = nullptr;
  size_t left_ = 0;
};

}  // namespace byollm
