#include "inc/timing.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <sstream>

namespace {

// The smallest time that this share of the runs does not exceed.
double Percentile(const std::vector<double> &sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

}  // namespace

std::string DescribeTimes(double load, const std::vector<double> &runs) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(3) << "loading the model: " << load << " ms\n"
       << "first run: " << runs.front() << " ms\n";
  std::vector<double> rest(runs.begin() + 1, runs.end());
  if (!rest.empty()) {
    std::sort(rest.begin(), rest.end());
    text << "further runs: " << rest.size() << ", average "
         << std::accumulate(rest.begin(), rest.end(), 0.0) / static_cast<double>(rest.size()) << " ms, p50 "
         << Percentile(rest, 0.5) << " ms, p90 " << Percentile(rest, 0.9) << " ms\n";
  }
  return text.str();
}
