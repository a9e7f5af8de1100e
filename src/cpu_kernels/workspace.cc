#include "workspace.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace cpu_kernels {
namespace {

constexpr size_t kAlignment = 4096;

std::mutex &mutex() {
  static auto *shared = new std::mutex();
  return *shared;
}

std::multimap<size_t, void *> &unused() {  // by size
  static auto *shared = new std::multimap<size_t, void *>();
  return *shared;
}

}  // namespace

Loan::Loan(size_t bytes) : bytes_((bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment) {
  std::lock_guard<std::mutex> lock(mutex());
  const auto found = unused().lower_bound(bytes_);
  if (found != unused().end() && found->first <= 2 * bytes_) {
    bytes_ = found->first;
    data_ = found->second;
    unused().erase(found);
    return;
  }
  data_ = std::aligned_alloc(kAlignment, bytes_);
  if (data_ == nullptr) throw std::bad_alloc();
}

Loan::~Loan() {
  std::lock_guard<std::mutex> lock(mutex());
  unused().emplace(bytes_, data_);
}

}  // namespace cpu_kernels
