#!/usr/bin/env bash
# Evaluate an exported model with the C++ program in ascend310_infer: input files, program, scores.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat >&2 <<EOF
usage: bash $0 MINDIR_PATH LABEL_PATH DATA_FILE_PATH DATASET_FORMAT SCHEMA_PATH TASK
           [VOCAB_FILE_PATH EVAL_JSON_PATH] NEED_PREPROCESS DEVICE_TYPE [DEVICE_ID]
for example: bash $0 bert.mindir labels.txt dev.mindrecord mindrecord "" classifier "" "" y CPU
  MINDIR_PATH      model that export.py wrote, with the .json file beside it
  LABEL_PATH       names of the classes or entity types
  DATA_FILE_PATH   records to evaluate on
  DATASET_FORMAT   mindrecord or tfrecord
  SCHEMA_PATH      schema of TFRecord files
  TASK             ner, ner_crf, classifier or squad
  VOCAB_FILE_PATH, EVAL_JSON_PATH   vocabulary and SQuAD file; squad needs them
  NEED_PREPROCESS  y, or n to use the input files of the run before
  DEVICE_TYPE      Ascend or GPU, where LITE_HOME names the directory of MindSpore Lite, or CPU
  DEVICE_ID        number of the device, 0 by default
"" stands for what a task does not need. Files go to the current directory: preprocess_Result, result_Files, time_Result,
infer.log, and the scores to acc.log.
EOF
    exit 2
}

# step LOG COMMAND...: run a command with its output in LOG; when it fails, show its error and end with its status.
step() {
    local log="$1" status=0
    shift
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [[ $status != 0 ]]; then
        printf '%s\nfailed with exit status %s; all of its output is in %s\n' "$(first_error "$log")" "$status" \
            "$PWD/$log" >&2
        exit "$status"
    fi
}

if [[ $# -ge 8 && $# -le 9 && $7 =~ ^[yn]$ ]]; then set -- "${@:1:6}" "" "" "${@:7}"; fi
if [[ $# -lt 10 || $# -gt 11 ]]; then usage; fi
model="$1" task="${6,,}" need_preprocess="$9" device_type="${10}" device_id="${11:-0}"
if [[ $task == sqaud ]]; then task=squad; fi  # as one of the documents spells it
[[ $task =~ ^(ner|ner_crf|classifier|squad)$ && $need_preprocess =~ ^[yn]$ ]] || usage
[[ $device_type =~ ^(Ascend|GPU|CPU)$ && $device_id =~ ^[0-9]+$ ]] || usage
[[ -f $model ]] || die "MINDIR_PATH: no file $model"

options=()
add_option() { if [[ -n $2 ]]; then options+=("$1" "$2"); fi; }
add_option --label_file_path "$2"
add_option --eval_data_file_path "$3"
add_option --dataset_format "$4"
add_option --schema_file_path "$5"
add_option --vocab_file_path "$7"
if [[ $task == squad ]]; then add_option --eval_json_path "$8"; fi

LITE_HOME="${LITE_HOME:-${MS_LITE_HOME:-}}"
if [[ -n $LITE_HOME ]]; then
    runtime="$LITE_HOME/runtime"
    export LITE_HOME LD_LIBRARY_PATH="$runtime/lib:$runtime/third_party/glog:$runtime/third_party/libjpeg-turbo/lib:\
$LITE_HOME/tools/converter/lib:${LD_LIBRARY_PATH:-}"
elif [[ $device_type != CPU ]]; then
    die "DEVICE_TYPE: $device_type needs MindSpore Lite; set LITE_HOME to its directory, or compute on the CPU"
fi

export GLOG_v="${GLOG_v:-3}"
program="${BUILD_DIR:-$ROOT/ascend310_infer/out}"
python="$(run_python)"
: >acc.log || die "cannot write acc.log; start from a directory that you may write to"
if [[ $need_preprocess == y ]]; then
    step preprocess.log "$python" "$ROOT/preprocess.py" --model_path "$model" --task "$task" "${options[@]}"
else
    step preprocess.log "$python" "$ROOT/preprocess.py" --model_path "$model" --task "$task" --keep
fi
bash "$ROOT/ascend310_infer/build.sh" "$program"
step infer.log "$program/main" --model_path "$model" --device_type "$device_type" --device_id "$device_id"
cat infer.log
step acc.log "$python" "$ROOT/postprocess.py" "${options[@]}"
cat acc.log
