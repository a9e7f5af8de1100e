# shellcheck shell=bash
# What all scripts share: where the repository lies, messages, the Python of a run. Sourced, not run.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

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

# first_error LOG: the line to show of a failed run; what supervises several ranks knows which of them failed first.
first_error() {
    grep -m 1 -E '^error: (rank [0-9]|host [0-9]|the scheduler )' "$1" ||
        grep -m 1 -E '^error: |^[A-Za-z_.]*(Error|Exception)(:|$)' "$1" || tail -n 1 "$1"
}
