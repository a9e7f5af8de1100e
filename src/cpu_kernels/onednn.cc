#include "onednn.h"

#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "onednn_api.h"
#include "threads.h"
#include "workspace.h"

namespace cpu_kernels {
namespace api {

struct Functions {
#define DECLARE(name, result, arguments) result(*name) arguments = nullptr;
  ONEDNN_FUNCTIONS(DECLARE)
#undef DECLARE
  std::string misfit;

  Functions() {
    void *library = dlopen("libdnnl.so.3", RTLD_NOW | RTLD_NOLOAD);  // MindSpore has loaded it
    if (library == nullptr) {
      misfit = "this MindSpore has no libdnnl.so.3 (oneDNN 3)";
      return;
    }
#define LOOK_UP(name, result, arguments)                                              \
  *reinterpret_cast<void **>(&name) = dlsym(library, "dnnl_" #name);                   \
  if (name == nullptr) misfit = "MindSpore's oneDNN has no function dnnl_" #name;
    ONEDNN_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    if (misfit.empty()) check_version();
  }

  void check_version() {
    const Version *found = version();
    if (found->major != 3 || found->cpu_runtime != kThreadPoolRuntime) {
      misfit = "MindSpore's oneDNN is version " + std::to_string(found->major) + "." + std::to_string(found->minor) +
               " with CPU runtime " + std::to_string(found->cpu_runtime) + "; needed is 3 with a thread pool (8)";
    }
  }
};

}  // namespace api

namespace {

const api::Functions &dnnl() {
  static const api::Functions *functions = new api::Functions();
  return *functions;
}

void check(api::Status status, const char *what) {
  if (status != 0) throw std::runtime_error(std::string("oneDNN: ") + what + ": status " + std::to_string(status));
}

// Lends our threads to oneDNN.
class SharedThreads : public api::ThreadPool {
 public:
  int get_num_threads() const override { return thread_count(); }
  bool get_in_parallel() const override { return inside_parallel(); }
  void parallel_for(int count, const std::function<void(int, int)> &work) override {
    parallel(count, [&](int64_t i) { work(static_cast<int>(i), count); });
  }
  uint64_t get_flags() const override { return 0; }
  void wait() override {}
};

class OneThread : public api::ThreadPool {
 public:
  int get_num_threads() const override { return 1; }
  bool get_in_parallel() const override { return false; }
  void parallel_for(int count, const std::function<void(int, int)> &work) override {
    for (int i = 0; i < count; ++i) work(i, count);
  }
  uint64_t get_flags() const override { return 0; }
  void wait() override {}
};

api::Handle engine() {
  static api::Handle shared = [] {
    api::Handle created = nullptr;
    check(dnnl().engine_create(&created, api::kCpuEngine, 0), "engine");
    return created;
  }();
  return shared;
}

api::Handle create_stream(api::ThreadPool *threads) {
  api::Handle stream = nullptr;
  check(dnnl().threadpool_interop_stream_create(&stream, engine(), threads), "stream");
  return stream;
}

// One for each thread that asks; there are few, and they live as long as the process.
api::Handle stream_of_thread() {
  thread_local OneThread one;
  thread_local SharedThreads all;
  thread_local api::Handle alone = create_stream(&one), together = create_stream(&all);
  return inside_parallel() ? alone : together;
}

class MemoryLayout {
 public:
  explicit MemoryLayout(const Matrix &matrix) {
    const api::Dimensions sizes = {matrix.rows, matrix.columns}, strides = {matrix.row_stride, matrix.column_stride};
    check(dnnl().memory_desc_create_with_strides(&handle_, 2, sizes, static_cast<int>(matrix.type), strides),
          "layout of a matrix");
  }
  ~MemoryLayout() { dnnl().memory_desc_destroy(handle_); }
  MemoryLayout(const MemoryLayout &) = delete;
  api::Handle get() const { return handle_; }

 private:
  api::Handle handle_ = nullptr;
};

Matrix bias_row(const float *bias, int64_t columns) {
  return {const_cast<float *>(bias), Type::float32, 1, columns, columns, 1};
}

// A product of matrices of certain sizes, types and layouts, prepared once: oneDNN generates code for it.
class Product {
 public:
  Product(const Matrix &left, const Matrix &right, const Matrix &target, bool has_bias, bool add)
      : left_(left), right_(right), target_(target), bias_(bias_row(nullptr, target.columns)) {
    check(dnnl().threadpool_interop_set_max_concurrency(inside_parallel() ? 1 : thread_count()), "number of threads");
    api::Handle attributes = nullptr, post = nullptr, description = nullptr;
    check(dnnl().primitive_attr_create(&attributes), "attributes");
    // oneDNN's own memory for a product belongs to the thread that prepared it; several threads execute it here.
    check(dnnl().primitive_attr_set_scratchpad_mode(attributes, api::kUserScratchpad), "memory mode");
    check(dnnl().post_ops_create(&post), "post operations");
    if (add) check(dnnl().post_ops_append_sum(post, 1.0f, 0, 0), "sum");
    check(dnnl().primitive_attr_set_post_ops(attributes, post), "post operations");
    check(dnnl().matmul_primitive_desc_create(&description, engine(), left_.get(), right_.get(),
                                              has_bias ? bias_.get() : nullptr, target_.get(), attributes),
          "description of a product");
    check(dnnl().primitive_create(&primitive_, description), "product");
    scratchpad_layout_ = dnnl().primitive_desc_query_md(description, api::kScratchpadLayout, 0);
    scratchpad_size_ = dnnl().memory_desc_get_size(scratchpad_layout_);
    dnnl().post_ops_destroy(post);
    dnnl().primitive_attr_destroy(attributes);
  }

  void execute(void *left, void *right, void *target, const float *bias) const {
    const Loan scratchpad(scratchpad_size_);
    const std::array<api::Argument, 5> arguments = {
        api::Argument{api::kSource, memory(left_.get(), left)}, {api::kWeights, memory(right_.get(), right)},
        {api::kTarget, memory(target_.get(), target)}, {api::kScratchpad, memory(scratchpad_layout_, scratchpad.data())},
        {api::kBias, bias ? memory(bias_.get(), const_cast<float *>(bias)) : nullptr}};
    const api::Status status = dnnl().primitive_execute(primitive_, stream_of_thread(), bias ? 5 : 4, arguments.data());
    for (const api::Argument &argument : arguments) {
      if (argument.memory != nullptr) dnnl().memory_destroy(argument.memory);
    }
    check(status, "product");
  }

 private:
  static api::Handle memory(api::Handle layout, void *data) {
    api::Handle created = nullptr;
    check(dnnl().memory_create(&created, layout, engine(), data), "memory");
    return created;
  }

  MemoryLayout left_, right_, target_, bias_;
  api::Handle primitive_ = nullptr, scratchpad_layout_ = nullptr;  // the latter is a part of the description
  size_t scratchpad_size_ = 0;
};

using Key = std::array<int64_t, 12>;

Key key_of(const Matrix &left, const Matrix &right, const Matrix &target, bool has_bias, bool add) {
  const int64_t types = static_cast<int>(left.type) * 16 + static_cast<int>(right.type) * 4 +
                        static_cast<int>(target.type);
  return {left.rows, left.columns, right.columns, left.row_stride, left.column_stride, right.row_stride,
          right.column_stride, target.row_stride, target.column_stride, types, has_bias * 2 + add, inside_parallel()};
}

const Product &product_of(const Matrix &left, const Matrix &right, const Matrix &target, bool has_bias, bool add) {
  static std::mutex *mutex = new std::mutex();
  static auto *products = new std::map<Key, Product>();
  const Key key = key_of(left, right, target, has_bias, add);
  std::lock_guard<std::mutex> lock(*mutex);
  const auto found = products->find(key);
  if (found != products->end()) return found->second;
  return products->try_emplace(key, left, right, target, has_bias, add).first->second;
}

}  // namespace

void multiply(const Matrix &left, const Matrix &right, const Matrix &target, const float *bias, bool add) {
  product_of(left, right, target, bias != nullptr, add).execute(left.data, right.data, target.data, bias);
}

const char *onednn_misfit() { return dnnl().misfit.c_str(); }

}  // namespace cpu_kernels
