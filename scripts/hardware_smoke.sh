#!/usr/bin/env bash
# Check in five minutes whether a device computes what this repository needs, and print what to paste into an issue:
# bash scripts/hardware_smoke.sh Ascend|GPU|CPU [--only 3,5] [--device_id N] [--option value ...]

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [[ ! ${1:-} =~ ^(Ascend|GPU|CPU)$ || ($# -gt 1 && $2 != --*) ]]; then
    cat >&2 <<EOF
usage: bash $0 Ascend|GPU|CPU [--only N,N] [--device_id N] [--compute_type TYPE] [--minutes N]
for example: bash $0 Ascend --device_id 0
Thirteen checks, a PASS, FAIL or SKIP each with numbers; exit status 1 if one fails. The last lines are for an issue.
EOF
    exit 2
fi
target="$1"
shift
export GLOG_v="${GLOG_v:-3}"
exec "$(run_python)" "$ROOT/src/tools/hardware_smoke/run.py" --device_target "$target" "$@"
