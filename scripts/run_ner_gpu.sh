#!/usr/bin/env bash
# Fine-tune and evaluate named-entity recognition on a GPU: bash scripts/run_ner_gpu.sh [DEVICE_ID] [--option value ...]
# The settings are those of run_ner.sh.

task_target=GPU
# shellcheck source=scripts/run_ner.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_ner.sh"
