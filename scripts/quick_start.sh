#!/usr/bin/env bash
# Install what is needed into .venv and run the whole of pre-training on a small example: bash scripts/quick_start.sh

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment requirements.txt
cd "$ROOT"
# The training is faster with them, and works without.
if ! outcome="$("$VENV/bin/python" -m src.cpu_kernels.build 2>&1)"; then
    outcome="${outcome##*$'\n'}"
    say "going on without the CPU operators: ${outcome#error: }"
fi
export GLOG_v="${GLOG_v:-3}"
exec "$VENV/bin/python" quick_start.py "$@"
