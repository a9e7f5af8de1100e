#!/usr/bin/env bash
# Build the C++ program: bash ascend310_infer/build.sh [DIRECTORY]
#
# It becomes DIRECTORY/main (ascend310_infer/out/main by default). With LITE_HOME, the directory of MindSpore Lite, it is
# the program for Ascend; without, the same program on the CPU, over the MindSpore of the Python environment.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/common.sh
source "$HERE/../scripts/common.sh"

if [[ $# -gt 1 || ${1:-} == -* ]]; then
    say "usage: bash $0 [DIRECTORY]" >&2
    exit 2
fi
OUT="${1:-$HERE/out}"
LITE_HOME="${LITE_HOME:-${MS_LITE_HOME:-}}"
command -v cmake >/dev/null || die "cmake is absent, and building the C++ program needs it; install cmake 3.18 or newer"
mkdir -p "$OUT" || die "cannot make the directory $OUT; give one that you may write to"

LOG="$OUT/build.log"
build() {
    cmake -S "$HERE" -B "$OUT" -DLITE_HOME="$LITE_HOME" -DPYTHON="$(run_python)" -DSANITIZE="${SANITIZE:-}" &&
        cmake --build "$OUT" --parallel 2
}
if ! (build) >"$LOG" 2>&1; then
    grep -m 3 -A 2 -E 'error:|Error' "$LOG" >&2 || tail -n 5 "$LOG" >&2
    die "the C++ program cannot be built; all of the output is in $LOG"
fi
say "built $OUT/main"
