// The status that every call of the API returns. MindSpore's own library has the class of the official header.
#ifndef CPU_RUNTIME_INCLUDE_API_STATUS_H_
#define CPU_RUNTIME_INCLUDE_API_STATUS_H_

#include "utils/status.h"

#endif  // CPU_RUNTIME_INCLUDE_API_STATUS_H_
