#!/usr/bin/env bash
# Fine-tune and evaluate question answering on several GPUs, or with --device_target other devices:
# bash scripts/run_squad_gpu_distribute.sh DEVICE_NUM [--option value ...]
# The settings are those of run_squad.sh. Without --train_data_file_path the files are taken from scripts/squad/, where
# the published recipe puts them: training records (or a JSON file), dev JSON file, vocab.txt and the checkpoint of
# BERT-large.

task_target=GPU task_start=finetune_on_several
# shellcheck source=scripts/run_squad.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_squad.sh"
