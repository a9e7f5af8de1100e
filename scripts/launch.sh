# shellcheck shell=bash
# Starting runs, on one device or several. Sourced, not run.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# What stands before the script of a run: Python on one device, and what `use_ranks` puts here on several.
RUNNER=("$(run_python)")

# launch LOG SCRIPT OPTION...: run SCRIPT of the repository in the background with its output in LOG. Returns when the
# first step is logged, or after START_SECONDS; when the run ends before that, with its exit status and its error.
# FOREGROUND=1, or --foreground among the options, runs it in front instead, with its output on the terminal.
launch() {
    local log="$PWD/$1" script="$2" options=() option pid status=0 deadline
    shift 2
    if [[ $script != /* ]]; then script="$ROOT/$script"; fi
    for option in "$@"; do
        if [[ $option == --foreground ]]; then FOREGROUND=1; else options+=("$option"); fi
    done
    export GLOG_v="${GLOG_v:-3}" PYTHONUNBUFFERED=1
    if [[ ${FOREGROUND:-0} == 1 ]]; then exec "${RUNNER[@]}" "$script" "${options[@]}"; fi

    : >"$log" || die "cannot write $log; start from a directory that you may write to"
    nohup "${RUNNER[@]}" "$script" "${options[@]}" >"$log" 2>&1 </dev/null &
    pid=$!
    say "started: PID $pid, log $log"
    deadline=$((SECONDS + ${START_SECONDS:-30}))
    while ((SECONDS < deadline)); do
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
        sleep 0.2
    done
    say "running in the background; watch it with: tail -f '$log'; stop it with: kill $pid"
}

# use_ranks COUNT LOG: make `launch` start COUNT processes on this host, whose outputs go to LOG{device}/LOG.
use_ranks() {
    local count="$1" log="$2" words
    read -ra words <<<"${LAUNCHER:-}"
    case "${words[0]:-}" in
        "")
            RUNNER+=("$ROOT/scripts/start_ranks.py" --log "$log" --processes "$count" --nodes "${NODE_NUM:-1}"
                --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}"
                --master_port "${MASTER_PORT:-0}" --bind_cores "${BIND_CORES:-false}" --)
            ;;
        mpirun)
            command -v mpirun >/dev/null || die "LAUNCHER: mpirun is absent; install Open MPI, or leave LAUNCHER unset"
            if [[ $EUID == 0 ]]; then words+=(--allow-run-as-root); fi
            RUNNER=("${words[@]}" -n "$((count * ${NODE_NUM:-1}))" --output-filename "$PWD/LOG" "${RUNNER[@]}")
            ;;
        msrun)
            use_msrun "$count" "${words[@]:1}"
            ;;
        *) die "LAUNCHER: expected mpirun or msrun with its options, or nothing; found '$LAUNCHER'" ;;
    esac
}

# use_msrun COUNT [OPTION...]: let MindSpore's own launcher start the ranks. It shows the first one's output, as ours.
use_msrun() {
    local count="$1" port="${MASTER_PORT:-0}" python="${RUNNER[0]}" msrun
    shift
    PATH="$(dirname "$(command -v "$python")"):$PATH"  # msrun starts whatever is called python there
    export PATH
    msrun="$(dirname "$(command -v "$python")")/msrun"
    if [[ ! -x $msrun ]]; then msrun="$(command -v msrun)" || die "LAUNCHER: msrun is absent; it comes with MindSpore"; fi
    if [[ $port == 0 ]]; then
        port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    fi
    RUNNER=("$msrun" --worker_num "$((count * ${NODE_NUM:-1}))" --local_worker_num "$count"
        --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$port"
        --log_dir "$PWD/LOG_msrun" --join True --tail_worker_log 0 --bind_core "${BIND_CORES:-False}" "$@")
}

# is_given OPTION WORD...: whether OPTION stands among the words.
is_given() {
    local option="$1" word
    shift
    for word in "$@"; do
        if [[ $word == "$option" || $word == "$option"=* ]]; then return 0; fi
    done
    return 1
}

ranks_usage() {
    cat <<EOF
Each rank has its output in LOG{device}/$1; when one dies, the others are stopped.
--foreground runs in front; otherwise the run goes to the background, with the output of the first rank in $1.
Environment variables:
  NODE_NUM, NODE_RANK, MASTER_ADDR, MASTER_PORT
                     several hosts: how many, the number of this one from 0, address and port of host 0; to be started
                     on each of them
  BIND_CORES=true    each rank gets cores of its own
  LAUNCHER=msrun     MindSpore's own launcher starts the ranks, with their output in LOG_msrun/
  LAUNCHER=mpirun    Open MPI starts the ranks; options may follow: LAUNCHER='mpirun --hostfile hosts'
EOF
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

# pretrain_on_several TARGET DEVICE_NUM EPOCH_SIZE DATA_DIR [OPTION...]: on DEVICE_NUM devices of this host, and as many
# of each other. OTHER_FORM is another way of calling the script, for the usage.
pretrain_on_several() {
    local target="$1"
    shift
    if [[ $# -lt 3 || ! $1 =~ ^[1-9][0-9]*$ || ! $2 =~ ^[1-9][0-9]*$ || ($# -gt 3 && $4 != --*) ]]; then
        cat >&2 <<EOF
usage: bash $0 DEVICE_NUM EPOCH_SIZE DATA_DIR [--option value ...]
${OTHER_FORM:+"   or: bash $0 $OTHER_FORM [--option value ...]
"}for example: bash $0 8 40 /path/cn-wiki-128
  DEVICE_NUM  devices of this host to train on, a process each; a step takes batch_size samples on each of them
  EPOCH_SIZE  passes over the data
  DATA_DIR    directory with the pre-training records
Further options are those of run_pretrain.py (run_pretrain.py --help lists them), for example --batch_size 32.
$(ranks_usage pretraining_log.txt)
EOF
        exit 2
    fi
    local device_num="$1" epoch_size="$2" data_dir="$3"
    shift 3
    train_on_several "$target" "$device_num" "$data_dir" --epoch_size "$epoch_size" "$@"
}

# train_on_several TARGET DEVICE_NUM DATA_DIR [OPTION...]
train_on_several() {
    local target="$1" device_num="$2" data_dir="$3" place=()
    shift 3
    [[ -d $data_dir ]] || die "DATA_DIR: no directory $data_dir"
    # A file of settings may name another place for the checkpoints.
    if ! is_given --ini_path "$@" && ! is_given --config_path "$@"; then
        place=(--save_checkpoint_path "$PWD/LOG0")
    fi
    use_ranks "$device_num" pretraining_log.txt
    launch pretraining_log.txt run_pretrain.py --device_target "$target" --distribute true \
        --device_num "$((device_num * ${NODE_NUM:-1}))" --data_dir "$data_dir" "${place[@]}" "$@"
}

# pretrain_with_rank_table DATA_DIR HCCL_JSON [OPTION...]: by ./distributed_cmd.sh, which is made when it is absent.
pretrain_with_rank_table() {
    local data_dir="$1" table made_for make="$ROOT/scripts/ascend_distributed_launcher/get_distribute_pretrain_cmd.py"
    local commands="$PWD/distributed_cmd.sh"
    [[ -d $data_dir ]] || die "DATA_DIR: no directory $data_dir"
    [[ -f $2 ]] || die "HCCL_JSON: no file $2"
    table="$(realpath "$2")"
    shift 2
    if [[ ! -e $commands ]]; then
        "${RUNNER[@]}" "$make" --data_dir "$data_dir" --hccl_config "$table" --cmd_file "$commands" \
            --server_id "${SERVER_ID:-}" --bind_cores "${BIND_CORES:-true}"
    else
        made_for="$(sed -n 's/^# rank table: //p' "$commands")"
        if [[ $made_for != "$table" ]]; then
            die "$commands was made for ${made_for:-something else}, not for $table; remove it, or make it again with $make"
        elif [[ $table -nt $commands ]]; then
            die "$table is newer than $commands; remove that, or make it again with $make"
        fi
    fi
    export PYTHON="${RUNNER[0]}"
    RUNNER=(bash)
    launch pretraining_log.txt "$commands" --data_dir "$data_dir" "$@"
}

# finetune_on_one TARGET SCRIPT LOG [DEVICE_ID] [OPTION...]: run a fine-tuning script with the SETTINGS of its launcher,
# which the options of the command line overrule.
finetune_on_one() {
    local target="$1" script="$2" log="$3" device_id=0
    shift 3
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
    launch "$log" "$script" --device_target "$target" --device_id "$device_id" "${SETTINGS[@]}" "$@"
}

# finetune_on_several TARGET SCRIPT LOG DEVICE_NUM [OPTION...]: the same on DEVICE_NUM devices of this host.
finetune_on_several() {
    local target="$1" script="$2" log="$3"
    shift 3
    if [[ $# -eq 0 || ! $1 =~ ^[1-9][0-9]*$ || ($# -gt 1 && $2 != --*) ]]; then
        cat >&2 <<EOF
usage: bash $0 DEVICE_NUM [--option value ...]
for example: bash $0 8 --train_data_file_path /path/train.mindrecord --load_pretrain_checkpoint_path /path/bert.ckpt
  DEVICE_NUM  devices of this host to train on, a process each; a step takes train_batch_size samples on each of them
Settings of the task stand at the top of scripts/${script%.py}.sh; options overrule them, and $script --help lists them.
--device_target Ascend or CPU trains there.
$(ranks_usage "$log")
EOF
        exit 2
    fi
    local device_num="$1"
    shift
    use_ranks "$device_num" "$log"
    launch "$log" "$script" --device_target "$target" --distribute true \
        --device_num "$((device_num * ${NODE_NUM:-1}))" "${SETTINGS[@]}" "$@"
}
