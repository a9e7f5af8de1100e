#!/usr/bin/env bash
# Another name of run_ner.sh, which some documents use.

exec bash "$(dirname "${BASH_SOURCE[0]}")/run_ner.sh" "$@"
