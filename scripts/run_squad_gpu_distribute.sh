#!/usr/bin/env bash
# Fine-tune and evaluate question answering on several GPUs of this host, or with as many processes on the CPU:
# bash scripts/run_squad_gpu_distribute.sh DEVICE_NUM [--option value ...]
# The settings are those of run_squad.sh.

squad_target=GPU squad_start=finetune_on_several
# shellcheck source=scripts/run_squad.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_squad.sh"
