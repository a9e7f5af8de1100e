// Runs a MINDIR model on files that preprocess.py wrote; postprocess.py makes scores of the results.
#include <chrono>
#include <csignal>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "inc/checksum.h"
#include "inc/failure.h"
#include "inc/input_files.h"
#include "inc/network.h"
#include "inc/options.h"
#include "inc/output_files.h"
#include "inc/timing.h"

namespace {

constexpr int kUserError = 2;
constexpr char kTimeFile[] = "test_perform_static.txt";

volatile std::sig_atomic_t interrupted = 0;
void Interrupt(int signal) { interrupted = signal; }

class Stopwatch {
 public:
  double Milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Returns the milliseconds of each batch.
std::vector<double> RunBatches(const std::vector<BatchFiles> &batches, const OutputFiles &results, Network *network) {
  std::vector<double> times;
  for (const auto &batch : batches) {
    if (interrupted != 0) {
      throw Failure("interrupted after " + std::to_string(times.size()) + " of " + std::to_string(batches.size()) +
                    " batches; no result was written");
    }
    network->Load(batch);
    const Stopwatch stopwatch;
    const auto outputs = network->Run(batch);
    times.push_back(stopwatch.Milliseconds());
    for (size_t i = 0; i < outputs.size(); ++i) {
      results.Write(batch.name + "_" + std::to_string(i) + ".bin", outputs[i].Data().get(), outputs[i].DataSize());
    }
  }
  return times;
}

void Infer(const Options &options) {
  const OutputFiles results(options.result_path, "--result_path");
  const OutputFiles time_files(options.time_path, "--time_path");
  VerifyModel(options.model_path);
  const Stopwatch stopwatch;
  Network network(options.model_path, options.device_type, options.device_id);
  const double load = stopwatch.Milliseconds();

  std::vector<std::string> directories;
  for (size_t i = 0; i < network.InputCount(); ++i) {
    directories.push_back(options.InputDirectory(i));
  }
  const auto times = RunBatches(PairFiles(directories), results, &network);
  const std::string report = DescribeTimes(load, times);
  time_files.Write(kTimeFile, report.data(), report.size());
  results.Publish();
  time_files.Publish();
  std::cout << report << times.size() << " batches: results in " << options.result_path << std::endl;
}

}  // namespace

int main(int argc, char **argv) {
  std::signal(SIGINT, Interrupt);
  std::signal(SIGTERM, Interrupt);
  try {
    const Options options = ParseOptions(argc, argv);
    if (options.help) {
      std::cout << Usage();
    } else {
      Infer(options);
    }
    return 0;
  } catch (const Failure &failure) {
    std::cerr << "error: " << failure.what() << std::endl;
    return interrupted != 0 ? 128 + interrupted : kUserError;
  } catch (const std::exception &error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
}
