// Memory that an operator needs while it runs.
#pragma once

#include <cstddef>

namespace cpu_kernels {

// Memory on loan: given back when the object goes, and lent again, for fresh pages cost more than writing to them.
class Loan {
 public:
  explicit Loan(size_t bytes);
  ~Loan();
  Loan(const Loan &) = delete;
  void *data() const { return data_; }

 private:
  void *data_;
  size_t bytes_;
};

template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t size) : loan_(size * sizeof(T)) {}
  T *data() const { return static_cast<T *>(loan_.data()); }

 private:
  Loan loan_;
};

}  // namespace cpu_kernels
