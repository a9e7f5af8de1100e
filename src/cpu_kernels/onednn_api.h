// The part of oneDNN's C interface that is used here, and the interface of its threads.
//
// Declared here because MindSpore's wheel has the library without its headers. The numbers and signatures are those of
// versions 3.x, see `onednn_misfit`.
#pragma once

#include <cstdint>
#include <functional>

namespace cpu_kernels::api {

using Status = int;  // 0 is success
using Handle = void *;
using Dimensions = int64_t[12];

struct Version {
  int major, minor, patch;
  const char *hash;
  unsigned cpu_runtime, gpu_runtime;
};

struct Argument {
  int kind;
  Handle memory;
};

constexpr int kCpuEngine = 1;
constexpr unsigned kThreadPoolRuntime = 8;
constexpr int kSource = 1, kTarget = 17, kWeights = 33, kBias = 41, kScratchpad = 80;  // kinds of arguments
constexpr int kUserScratchpad = 1, kScratchpadLayout = 136;

// name, result, arguments
#define ONEDNN_FUNCTIONS(X)                                                                                       \
  X(version, const Version *, (void))                                                                             \
  X(engine_create, Status, (Handle *, int, size_t))                                                               \
  X(threadpool_interop_stream_create, Status, (Handle *, Handle, void *))                                         \
  X(threadpool_interop_set_max_concurrency, Status, (int))                                                        \
  X(memory_desc_create_with_strides, Status, (Handle *, int, const Dimensions, int, const Dimensions))            \
  X(memory_desc_get_size, size_t, (Handle))                                                                       \
  X(memory_desc_destroy, Status, (Handle))                                                                        \
  X(memory_create, Status, (Handle *, Handle, Handle, void *))                                                    \
  X(memory_destroy, Status, (Handle))                                                                             \
  X(post_ops_create, Status, (Handle *))                                                                          \
  X(post_ops_append_sum, Status, (Handle, float, int32_t, int))                                                   \
  X(post_ops_destroy, Status, (Handle))                                                                           \
  X(primitive_attr_create, Status, (Handle *))                                                                    \
  X(primitive_attr_set_post_ops, Status, (Handle, Handle))                                                        \
  X(primitive_attr_set_scratchpad_mode, Status, (Handle, int))                                                    \
  X(primitive_attr_destroy, Status, (Handle))                                                                     \
  X(matmul_primitive_desc_create, Status, (Handle *, Handle, Handle, Handle, Handle, Handle, Handle))             \
  X(primitive_desc_query_md, Handle, (Handle, int, int))                                                          \
  X(primitive_desc_destroy, Status, (Handle))                                                                     \
  X(primitive_create, Status, (Handle *, Handle))                                                                 \
  X(primitive_execute, Status, (Handle, Handle, int, const Argument *))

// What oneDNN calls to run its work on several threads: it knows this class by the order of its virtual functions.
class ThreadPool {
 public:
  virtual int get_num_threads() const = 0;
  virtual bool get_in_parallel() const = 0;
  virtual void parallel_for(int count, const std::function<void(int, int)> &work) = 0;
  virtual uint64_t get_flags() const = 0;
  virtual void wait() = 0;
  virtual ~ThreadPool() = default;
};

}  // namespace cpu_kernels::api
