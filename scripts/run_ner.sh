#!/usr/bin/env bash
# Fine-tune and evaluate named-entity recognition on an Ascend: bash scripts/run_ner.sh [DEVICE_ID] [--option value ...]

# Settings of the task, for the GPU scripts too. Options on the command line overrule them, so this may stay as it is.
SETTINGS=(
    --do_train true
    --do_eval true
    --assessment_method BF1
    --use_crf false
    --with_lstm false
    --epoch_num 5
    --train_data_shuffle true
    --eval_data_shuffle false
    --train_batch_size 32
    --save_finetune_checkpoint_path ./ner_finetune/ckpt/
    --load_pretrain_checkpoint_path ""
    --load_finetune_checkpoint_path ""
    --vocab_file_path ""
    --label_file_path ""
    --train_data_file_path ""
    --eval_data_file_path ""
    --schema_file_path ""
)

# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
"${task_start:-finetune_on_one}" "${task_target:-Ascend}" run_ner.py ner_log.txt "$@"
