#!/usr/bin/env bash
# Pre-train on several GPUs:
# bash scripts/run_distributed_pretrain_for_gpu.sh DEVICE_NUM EPOCH_SIZE DATA_DIR [--option value ...]
# or, on all GPUs of this host for the epochs of the configuration,
# bash scripts/run_distributed_pretrain_for_gpu.sh DATA_DIR [--option value ...]

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

count_gpus() {
    if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
        tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .
    elif command -v nvidia-smi >/dev/null; then
        nvidia-smi -L | grep -c '^GPU'
    fi
}

if [[ $# -gt 0 && ! $1 =~ ^([0-9]+$|--) && ($# -eq 1 || $2 == --*) ]]; then
    device_num="$(count_gpus || true)"
    [[ $device_num -gt 0 ]] || die "no GPU found; say how many to use: bash $0 DEVICE_NUM EPOCH_SIZE DATA_DIR"
    train_on_several GPU "$device_num" "$@"
else
    OTHER_FORM=DATA_DIR
    pretrain_on_several GPU "$@"
fi
