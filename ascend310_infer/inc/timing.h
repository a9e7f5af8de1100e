// How long batches take.
#ifndef ASCEND310_INFER_INC_TIMING_H_
#define ASCEND310_INFER_INC_TIMING_H_

#include <string>
#include <vector>

// Describes times in milliseconds. The first run, which may compile and allocate, does not enter the figures of the rest.
std::string DescribeTimes(double load, const std::vector<double> &runs);

#endif  // ASCEND310_INFER_INC_TIMING_H_
