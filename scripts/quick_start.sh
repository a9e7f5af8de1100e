#!/usr/bin/env bash
# Install what is needed into .venv and run the whole of pre-training on a small example: bash scripts/quick_start.sh

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment requirements.txt
cd "$ROOT"
# Optional: without a compiler training is slower, and says so.
"$VENV/bin/python" -m src.cpu_kernels.build >/dev/null 2>&1 || true
export GLOG_v="${GLOG_v:-3}"
exec "$VENV/bin/python" quick_start.py "$@"
