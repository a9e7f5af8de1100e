#!/usr/bin/env bash
# Install what the tests need into .venv, check the style, run the tests: bash scripts/run_tests.sh [pytest options]

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment requirements.txt requirements-tensorflow.txt requirements-dev.txt
cd "$ROOT"
export GLOG_v="${GLOG_v:-3}"
VENV="$VENV" bash scripts/check_style.sh
# Two files at a time: most of the time is spent compiling graphs, which takes one core.
exec "$VENV/bin/python" -m pytest -n 2 --dist loadfile "$@"
