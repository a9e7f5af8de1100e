#!/usr/bin/env bash
# Fine-tune and evaluate question answering on an Ascend: bash scripts/run_squad.sh [DEVICE_ID] [--option value ...]

# Settings of the task, for the GPU scripts too. Options on the command line overrule them, so this may stay as it is.
SETTINGS=(
    --do_train true
    --do_eval true
    --epoch_num 3
    --train_batch_size 32
    --train_data_shuffle true
    --eval_data_shuffle false
    --version_2_with_negative false
    --save_finetune_checkpoint_path ./squad_finetune/ckpt/
    --load_pretrain_checkpoint_path ""
    --load_finetune_checkpoint_path ""
    --vocab_file_path ""
    --train_data_file_path ""
    --eval_data_file_path ""
    --eval_json_path ""
    --schema_file_path ""
)

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
if [[ ${task_start:-} == finetune_on_several ]] && ! is_given --train_data_file_path "$@"; then
    # shellcheck source=scripts/squad_folder.sh
    source "$ROOT/scripts/squad_folder.sh"
fi
"${task_start:-finetune_on_one}" "${task_target:-Ascend}" run_squad.py squad_log.txt "$@"
