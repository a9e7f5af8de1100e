#!/usr/bin/env bash
# Fine-tune and evaluate a classifier on a GPU: bash scripts/run_classifier_gpu.sh [DEVICE_ID] [--option value ...]
# The settings are those of run_classifier.sh.

task_target=GPU
# shellcheck source=scripts/run_classifier.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_classifier.sh"
