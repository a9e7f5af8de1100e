#!/usr/bin/env bash
# Pre-train on several Ascend devices, with a rank table:
# bash scripts/run_distributed_pretrain_ascend.sh DATA_DIR HCCL_JSON [--option value ...]
# or without: bash scripts/run_distributed_pretrain_ascend.sh DEVICE_NUM EPOCH_SIZE DATA_DIR [--option value ...]

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

if [[ $# -gt 1 && ! $1 =~ ^([0-9]+$|--) && $2 != --* && ($# -eq 2 || $3 == --*) ]]; then
    pretrain_with_rank_table "$@"
else
    OTHER_FORM="DATA_DIR HCCL_JSON"
    pretrain_on_several Ascend "$@"
fi
