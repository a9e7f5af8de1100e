# shellcheck shell=bash
# What the scripts of this directory share: the Python environment and the start of a run. Sourced, not run.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# --- environment ---

is_supported_python() {
    # Run it rather than look for it: a pyenv shim exists for versions that cannot be started.
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_base_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python3.10; do
        if is_supported_python "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    die "no Python 3.10, 3.11 or 3.12 found (MindSpore 2.10 needs one of them);" \
        "install one, or name it: PYTHON=/path/to/python3.11 bash $0"
}

make_venv() {
    if [[ -x "$VENV/bin/python" ]] && ! is_supported_python "$VENV/bin/python" && "$VENV/bin/python" -c ''; then
        die "$VENV has a Python that MindSpore 2.10 does not support (3.10 to 3.12);" \
            "remove that directory, or choose another: VENV=/path/to/directory bash $0"
    fi
    # Without pip the environment was interrupted half-made, or its Python is gone: making it again mends it in place.
    if ! "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
        local python
        python="$(find_base_python)"
        say "creating $VENV with $("$python" --version)"
        "$python" -m venv "$VENV" || die "cannot create $VENV with $python; on Debian and Ubuntu install python3-venv"
    fi
}

show_progress() {
    # On a terminal one line that changes; elsewhere nothing. Always reads to the end.
    local line
    while IFS= read -r line; do
        if [[ -t 1 ]]; then printf '\r\033[K  %.76s' "$line"; fi
    done
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

# prepare_environment FILE...: make the environment and install the requirements files, unless that is done already.
# A subshell, so that its lock ends with it.
prepare_environment() (
    mkdir -p "$VENV"
    if command -v flock >/dev/null; then
        exec 9>"$VENV/.lock"
        flock -n 9 || { say "waiting for another installation into $VENV"; flock 9; }
    fi
    make_venv
    local python="$VENV/bin/python" stamps file changed=0 options=()
    # A copy of every installed file, in the directory of the packages: another Python has another one.
    stamps="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/.installed-requirements"
    for file in "$@"; do
        cmp -s "$ROOT/$file" "$stamps/$file" || changed=1
        options+=(-r "$ROOT/$file")
    done
    if [[ $changed == 0 ]]; then return; fi
    say "installing $* into $VENV (some minutes the first time)"
    if ! "$python" -m pip install --disable-pip-version-check --no-input "${options[@]}" </dev/null 2>&1 |
        tee "$VENV/install.log" | show_progress; then
        tail -n 15 "$VENV/install.log" >&2
        die "the installation failed; all of its output is in $VENV/install.log"
    fi
    mkdir -p "$stamps"
    for file in "$@"; do cp "$ROOT/$file" "$stamps/$file"; done
    say "installed"
)

# --- starting a run ---

# The Python of a run: PYTHON, an active environment, this repository's own, or that of the system.
run_python() {
    local candidate
    for candidate in "${PYTHON:-}" ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin/python"} "$VENV/bin/python"; do
        if command -v "$candidate" >/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    printf 'python3'
}

# launch LOG SCRIPT OPTION...: run SCRIPT of the repository in the background with its output in LOG. Returns when the
# first step is logged, or after START_SECONDS; when the run ends before that, with its exit status and its error.
# FOREGROUND=1, or --foreground among the options, runs it in front instead, with its output on the terminal.
# Words in LAUNCHER stand between Python and the script.
LAUNCHER=()
launch() {
    local log="$PWD/$1" script="$ROOT/$2" options=() option python pid status=0 seconds
    shift 2
    for option in "$@"; do
        if [[ $option == --foreground ]]; then FOREGROUND=1; else options+=("$option"); fi
    done
    python="$(run_python)"
    export GLOG_v="${GLOG_v:-3}" PYTHONUNBUFFERED=1
    if [[ ${FOREGROUND:-0} == 1 ]]; then exec "$python" "${LAUNCHER[@]}" "$script" "${options[@]}"; fi

    : >"$log" || die "cannot write $log; start from a directory that you may write to"
    nohup "$python" "${LAUNCHER[@]}" "$script" "${options[@]}" >"$log" 2>&1 </dev/null &
    pid=$!
    say "started: PID $pid, log $log"
    for ((seconds = 0; seconds < ${START_SECONDS:-30}; seconds++)); do
        if ! kill -0 "$pid" 2>/dev/null; then
            wait "$pid" || status=$?
            if [[ $status == 0 ]]; then
                say "finished"
            else
                printf '%s\nfailed with exit status %s; all of its output is in %s\n' \
                    "$(first_error "$log")" "$status" "$log" >&2
            fi
            exit "$status"
        fi
        if grep -q '^epoch: ' "$log"; then break; fi
        sleep 1
    done
    say "running in the background; watch it with: tail -f '$log'; stop it with: kill $pid"
}

first_error() {
    grep -m 1 -E '^error: |^[A-Za-z_.]*(Error|Exception)(:|$)' "$1" || tail -n 1 "$1"
}

# pretrain_on_one TARGET DEVICE_ID EPOCH_SIZE DATA_DIR [OPTION...]
pretrain_on_one() {
    local target="$1"
    shift
    if [[ $# -lt 3 || ! $1 =~ ^[0-9]+$ || ! $2 =~ ^[1-9][0-9]*$ || ($# -gt 3 && $4 != --*) ]]; then
        cat >&2 <<EOF
usage: bash $0 DEVICE_ID EPOCH_SIZE DATA_DIR [--option value ...]
for example: bash $0 0 1 /path/cn-wiki-128
  DEVICE_ID   number of the device, counted from 0 (always 0 on CPU)
  EPOCH_SIZE  passes over the data
  DATA_DIR    directory with the pre-training records
Further options are those of run_pretrain.py (run_pretrain.py --help lists them), for example --batch_size 32.
--foreground runs in front; otherwise the run goes to the background and its output to pretraining_log.txt.
EOF
        exit 2
    fi
    local device_id="$1" epoch_size="$2" data_dir="$3"
    shift 3
    [[ -d $data_dir ]] || die "DATA_DIR: no directory $data_dir"
    launch pretraining_log.txt run_pretrain.py --device_target "$target" --device_id "$device_id" \
        --epoch_size "$epoch_size" --data_dir "$data_dir" "$@"
}

# finetune_on_one TARGET SCRIPT LOG SETTING... -- [DEVICE_ID] [OPTION...]: run a fine-tuning script with its launcher's
# settings, which the options of the command line overrule.
finetune_on_one() {
    local target="$1" script="$2" log="$3" settings=() device_id=0
    shift 3
    while [[ $1 != -- ]]; do
        settings+=("$1")
        shift
    done
    shift
    if [[ $# -gt 0 && $1 =~ ^[0-9]+$ ]]; then
        device_id="$1"
        shift
    fi
    if [[ $# -gt 0 && $1 != --* ]]; then
        cat >&2 <<EOF
usage: bash $0 [DEVICE_ID] [--option value ...]
for example: bash $0 0 --train_data_file_path /path/train.mindrecord --eval_data_file_path /path/dev.mindrecord
  DEVICE_ID   number of the device, counted from 0
Settings of the task stand at the top of the script; options overrule them, and $script --help lists them.
--foreground runs in front; otherwise the run goes to the background and its output to $log.
EOF
        exit 2
    fi
    launch "$log" "$script" --device_target "$target" --device_id "$device_id" "${settings[@]}" "$@"
}

# finetune_on_several TARGET SCRIPT LOG SETTING... -- DEVICE_NUM [OPTION...]: the same on DEVICE_NUM devices of this host,
# a process each, started by MindSpore's msrun. LOG has the output of the first; that of each goes to LOG_DIR.
finetune_on_several() {
    local target="$1" script="$2" log="$3" settings=() device_num log_dir python
    shift 3
    while [[ $1 != -- ]]; do
        settings+=("$1")
        shift
    done
    shift
    if [[ $# -eq 0 || ! $1 =~ ^[1-9][0-9]*$ || ($# -gt 1 && $2 != --*) ]]; then
        cat >&2 <<EOF
usage: bash $0 DEVICE_NUM [--option value ...]
for example: bash $0 8 --train_data_file_path /path/train.mindrecord --eval_json_path /path/dev-v1.1.json
  DEVICE_NUM  devices of this host to train on; a step takes train_batch_size samples on each of them
Settings of the task stand at the top of scripts/run_squad.sh; options overrule them, and $script --help lists them.
--device_target CPU runs as many processes on the CPU. --foreground runs in front; otherwise the run goes to the
background and its output to $log. Each process has a log of its own in LOG_DIR, MASTER_PORT is where they meet.
EOF
        exit 2
    fi
    device_num="$1"
    shift
    log_dir="${LOG_DIR:-$PWD/${log%.txt}_ranks}"
    python="$(run_python)"
    if [[ $python == */* ]]; then export PATH="${python%/*}:$PATH"; fi  # msrun starts the processes with `python`
    LAUNCHER=(-m mindspore.parallel.cluster.run --worker_num "$device_num" --local_worker_num "$device_num"
        --master_port "${MASTER_PORT:-$(free_port "$python")}" --join True --tail_worker_log 0 --log_dir "$log_dir")
    launch "$log" "$script" --device_target "$target" --distribute true --device_num "$device_num" \
        "${settings[@]}" "$@"
}

free_port() {
    "$1" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
