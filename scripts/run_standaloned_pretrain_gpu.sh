#!/usr/bin/env bash
# Another name of run_standalone_pretrain_for_gpu.sh, which some documents use.

exec bash "$(dirname "${BASH_SOURCE[0]}")/run_standalone_pretrain_for_gpu.sh" "$@"
