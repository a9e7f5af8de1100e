# shellcheck shell=bash
# The files of a question-answering run that lie in scripts/squad/, as settings. Sourced by run_squad.sh, not run.

SQUAD_FOLDER="${SQUAD_FOLDER:-$ROOT/scripts/squad}"

# only_file WHAT PATTERN...: the one file in SQUAD_FOLDER that fits the first pattern that any file fits.
only_file() {
    local what="$1" pattern path found=()
    shift
    for pattern in "$@"; do
        for path in "$SQUAD_FOLDER"/$pattern; do
            if [[ -f $path ]]; then found+=("$path"); fi
        done
        if [[ ${#found[@]} -gt 0 ]]; then break; fi
    done
    if [[ ${#found[@]} != 1 ]]; then
        die "$SQUAD_FOLDER: expected $what ($*), found ${#found[@]} such files; put it there, or give the files as options"
    fi
    printf '%s' "${found[0]}"
}

if [[ -d $SQUAD_FOLDER ]]; then
    squad_train="$(only_file "the training data" '*.tf_record' '*.tfrecord' '*train*.mindrecord' '*train*.json')"
    squad_dev="$(only_file "the file to evaluate on" '*dev*.json')"
    squad_vocab="$(only_file "the vocabulary" 'vocab.txt')"
    squad_checkpoint="$(only_file "the pre-trained checkpoint" '*.ckpt')"
    SETTINGS+=(--train_data_file_path "$squad_train" --eval_json_path "$squad_dev" --vocab_file_path "$squad_vocab"
        --load_pretrain_checkpoint_path "$squad_checkpoint")
    case "$squad_train" in *.tf_record | *.tfrecord) SETTINGS+=(--dataset_format tfrecord) ;; esac
    # What the published checkpoint of this recipe is; a base one needs --config_path task_squad_config.yaml.
    SETTINGS=(--config_path "$ROOT/task_squad_large_config.yaml" "${SETTINGS[@]}")
fi
