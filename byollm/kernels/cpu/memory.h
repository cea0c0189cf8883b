// Memory for numbers.
#pragma once

#include <stdlib.h>

#include <cstring>
#include <new>
#include <utility>

namespace byollm {

constexpr int LINE = 64;  // bytes that the processor fetches together

template <class T>
struct Memory {  // aligned, zeroed, growing without keeping its contents
  T* data = nullptr;
  size_t size = 0;
  Memory() = default;
  Memory(Memory&& other) noexcept : data(std::exchange(other.data, nullptr)), size(std::exchange(other.size, 0)) {}
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

}  // namespace byollm
