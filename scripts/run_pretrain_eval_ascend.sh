#!/usr/bin/env bash
# Evaluate the pre-training checkpoint `eval_ckpt` on the records in `eval_data_dir`, both set in pretrain_config.yaml
# or as options: bash scripts/run_pretrain_eval_ascend.sh [--option value ...]

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
launch pretrain_eval_log.txt pretrain_eval.py --device_target Ascend "$@"
