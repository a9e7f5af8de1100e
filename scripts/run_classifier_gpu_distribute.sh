#!/usr/bin/env bash
# Fine-tune and evaluate a classifier on several GPUs, or with --device_target other devices:
# bash scripts/run_classifier_gpu_distribute.sh DEVICE_NUM [--option value ...]
# The settings are those of run_classifier.sh.

task_target=GPU task_start=finetune_on_several
# shellcheck source=scripts/run_classifier.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_classifier.sh"
