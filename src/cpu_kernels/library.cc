// What Python asks the library before it uses an operator.
#include "onednn.h"
#include "threads.h"

// Why no operator works with this MindSpore; empty if they do. MindSpore must have been imported.
extern "C" const char *cpu_kernels_misfit() { return cpu_kernels::onednn_misfit(); }

// Whether products in bfloat16 are faster than in float32 on this processor.
extern "C" int cpu_kernels_has_bfloat16() { return __builtin_cpu_supports("avx512bf16"); }

extern "C" void cpu_kernels_ask_for_threads(int count) { cpu_kernels::ask_for_threads(count); }

extern "C" int cpu_kernels_threads() { return cpu_kernels::thread_count(); }
