#!/usr/bin/env bash
# Pre-train with several processes on the CPU:
# bash scripts/run_distributed_pretrain_cpu.sh PROCESSES EPOCH_SIZE DATA_DIR [--option value ...]

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
pretrain_on_several CPU "$@"
