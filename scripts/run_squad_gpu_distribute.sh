#!/usr/bin/env bash
# Fine-tune and evaluate question answering on several GPUs, or with --device_target other devices:
# bash scripts/run_squad_gpu_distribute.sh DEVICE_NUM [--option value ...]
# The settings are those of run_squad.sh.

task_target=GPU task_start=finetune_on_several
# shellcheck source=scripts/run_squad.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_squad.sh"
