#include "threads.h"

#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace cpu_kernels {
namespace {

std::atomic<int> asked_for{0};
thread_local bool in_parallel = false;

struct Inside {
  Inside() { in_parallel = true; }
  ~Inside() { in_parallel = false; }
};

// About 30 microseconds: operators follow each other faster than a sleeping thread wakes up, but a core must not be
// kept from MindSpore's own operators for long.
constexpr int kSpins = 1500;

int usable_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(CPU_COUNT(&cores), 1);
  return std::max<int>(std::thread::hardware_concurrency(), 1);
}

// Threads that wait for a job: numbers to count up to, which they take one at a time. A thread that wakes up late finds
// the job closed and has kept nobody waiting.
class Pool {
 public:
  explicit Pool(int threads) : helpers_(threads - 1) {
    for (int i = 0; i < helpers_; ++i) std::thread([this] { serve(); }).detach();
  }

  void run(int64_t count, const std::function<void(int64_t)> &work) {
    std::unique_lock<std::mutex> only_job(job_, std::try_to_lock);
    if (!only_job.owns_lock() || count <= 1 || helpers_ == 0) {
      const Inside inside;  // as in a job, so that products in it have the same digits
      for (int64_t i = 0; i < count; ++i) work(i);
      return;
    }
    open_job(count, work);
    take_numbers();
    open_.store(0);
    while (inside_.load() > 0) _mm_pause();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  void open_job(int64_t count, const std::function<void(int64_t)> &work) {
    work_ = &work;
    count_ = count;
    next_.store(0);
    {
      std::lock_guard<std::mutex> lock(sleep_);
      open_.store(++last_ticket_);
    }
    wake_.notify_all();
  }

  void take_numbers() {
    const Inside inside;
    try {
      for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*work_)(i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(failing_);
      failure_ = std::current_exception();
    }
  }

  void serve() {
    for (uint64_t ticket = 0;;) {
      ticket = wait_for_job(ticket);
      ++inside_;
      if (open_.load() == ticket) take_numbers();  // from here on `run` waits
      --inside_;
    }
  }

  // The ticket of a job that is open, another one than `done`.
  uint64_t wait_for_job(uint64_t done) {
    uint64_t ticket = 0;
    const auto found = [&] { return (ticket = open_.load()) != 0 && ticket != done; };
    for (int spin = 0; spin < kSpins; ++spin) {
      if (found()) return ticket;
      _mm_pause();
    }
    std::unique_lock<std::mutex> lock(sleep_);
    wake_.wait(lock, found);
    return ticket;
  }

  const int helpers_;
  std::mutex job_, sleep_, failing_;
  std::condition_variable wake_;
  std::atomic<uint64_t> open_{0};  // the ticket of the job that may be joined, 0 for none
  std::atomic<int64_t> next_{0};
  std::atomic<int> inside_{0};  // helpers at work
  uint64_t last_ticket_ = 0;
  const std::function<void(int64_t)> *work_ = nullptr;
  int64_t count_ = 0;
  std::exception_ptr failure_;  // of any thread, for the caller
};

Pool &pool() {
  static Pool *shared = new Pool(thread_count());  // never deleted: its threads may outlive the end of main()
  return *shared;
}

}  // namespace

void ask_for_threads(int count) { asked_for = count; }

int thread_count() {
  static const int count = asked_for > 0 ? asked_for.load() : usable_cores();
  return count;
}

bool inside_parallel() { return in_parallel; }

void parallel(int64_t count, const std::function<void(int64_t)> &work) {
  if (in_parallel) {
    for (int64_t i = 0; i < count; ++i) work(i);
    return;
  }
  pool().run(count, work);
}

}  // namespace cpu_kernels
