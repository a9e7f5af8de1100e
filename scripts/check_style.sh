#!/usr/bin/env bash
# Check the style, as the tests and the pre-commit hook do: bash scripts/check_style.sh
# It takes ruff and pyright from .venv, or from the directory that VENV names.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
[[ -x "$VENV/bin/python" ]] || die "no environment in $VENV; make it with: bash scripts/run_tests.sh"
"$VENV/bin/python" -m ruff check --quiet .
# Not everybody has pyright, which brings Node.js with it. It always prints a summary, so that is kept back.
if [[ -x "$VENV/bin/pyright" ]]; then
    report=$(PYRIGHT_PYTHON_IGNORE_WARNINGS=1 "$VENV/bin/pyright" --pythonpath "$VENV/bin/python" 2>&1) \
        || die "$report"
fi
