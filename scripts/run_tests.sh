#!/usr/bin/env bash
# Install what the tests need into .venv, check the style, run the tests: bash scripts/run_tests.sh [--slow] [pytest options]
# --slow runs the slow tests as well.

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# Of several -m the last counts: this one takes back the choice in pyproject.toml, and the caller's own overrules it.
slow=() options=()
for option in "$@"; do
    if [[ $option == --slow ]]; then slow=(-m ""); else options+=("$option"); fi
done
prepare_environment requirements.txt requirements-tensorflow.txt requirements-dev.txt
cd "$ROOT"
export GLOG_v="${GLOG_v:-3}"
VENV="$VENV" bash scripts/check_style.sh
# Two files at a time, on one thread each: most of the time is spent compiling graphs, which takes one core. In the order of
# their names, as otherwise the longest file, that of the README, comes late and runs alone in the end.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$VENV/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 1 "${slow[@]}" "${options[@]}"
