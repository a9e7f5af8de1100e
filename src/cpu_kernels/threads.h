// The threads that the operators share.
#pragma once

#include <cstdint>
#include <functional>

namespace cpu_kernels {

// How many threads work at once, the caller included: one for each core of this process unless others were asked for.
int thread_count();

// To be called before the first operator works; 0 leaves it at the cores. The environment is of no help: MindSpore puts
// OMP_NUM_THREADS=1 there when it is imported.
void ask_for_threads(int count);

// Whether this thread is working on a part of a `parallel` call: such a part must not be divided further.
bool inside_parallel();

// Call work(0), ..., work(count - 1), each once, on all threads; return when all are done. Which thread takes which
// number is left to chance, so a result must not depend on it. If the threads are busy, the caller does everything.
void parallel(int64_t count, const std::function<void(int64_t)> &work);

// Call work(begin, end) for the pieces of at most `grain` of the range [0, size).
template <typename Work>
void parallel_ranges(int64_t size, int64_t grain, const Work &work) {
  parallel((size + grain - 1) / grain, [&](int64_t piece) {
    const int64_t begin = piece * grain;
    work(begin, begin + grain < size ? begin + grain : size);
  });
}

}  // namespace cpu_kernels
