#!/usr/bin/env bash
# Pre-train on an Ascend device: bash scripts/run_standalone_pretrain_ascend.sh DEVICE_ID EPOCH_SIZE DATA_DIR [--option value ...]

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
pretrain_on_one Ascend "$@"
