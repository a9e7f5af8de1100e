#!/usr/bin/env bash
# Fine-tune and evaluate question answering on a GPU: bash scripts/run_squad_gpu.sh [DEVICE_ID] [--option value ...]
# The settings are those of run_squad.sh.

task_target=GPU
# shellcheck source=scripts/run_squad.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_squad.sh"
