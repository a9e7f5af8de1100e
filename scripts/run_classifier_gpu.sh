#!/usr/bin/env bash
# Fine-tune and evaluate a classifier on a GPU: bash scripts/run_classifier_gpu.sh [DEVICE_ID] [--option value ...]
# The settings are those of run_classifier.sh.

bash "$(dirname "${BASH_SOURCE[0]}")/run_classifier.sh" "$@" --device_target GPU
