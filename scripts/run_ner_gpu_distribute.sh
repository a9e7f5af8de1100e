#!/usr/bin/env bash
# Fine-tune and evaluate named-entity recognition on several GPUs, or with --device_target other devices:
# bash scripts/run_ner_gpu_distribute.sh DEVICE_NUM [--option value ...]
# The settings are those of run_ner.sh.

task_target=GPU task_start=finetune_on_several
# shellcheck source=scripts/run_ner.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_ner.sh"
