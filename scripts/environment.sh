# shellcheck shell=bash
# The Python environment: making it, and installing what is needed into it. Sourced, not run.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

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
