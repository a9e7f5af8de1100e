#!/usr/bin/env bash
# Make one pre-training record file of each text file; the usage is in the message below.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"

if (( $# < 3 )) || [[ $1 == --* || $2 == --* || $3 == --* ]]; then
    cat >&2 <<EOF
usage: bash $0 INPUT_FILES_PATH OUTPUT_FILES_PATH VOCAB_FILE [--option value ...]
for example: bash $0 /path/wiki-clean-aa /path/output/ /path/bert-base-uncased-vocab.txt
  INPUT_FILES_PATH   directory of text files (with those below it), or one text file
  OUTPUT_FILES_PATH  directory for the record files, one for each text file
  VOCAB_FILE         vocabulary that the model is trained on
Further options are those of generate_pretrain_mindrecord.py (--help lists them), for example --max_seq_length 512.
EOF
    exit 2
fi

input="${1%/}" output="${2%/}" vocab="$3"
shift 3
format=mindrecord
previous=
for option in "$@"; do
    if [[ $previous == --dataset_format ]]; then format="$option"; fi
    if [[ $option == --dataset_format=* ]]; then format="${option#*=}"; fi
    previous="$option"
done

if [[ -d $input ]]; then
    mapfile -d '' -t files < <(find "$input" -type f ! -name '.*' -print0 | sort -z)
    if (( ${#files[@]} == 0 )); then die "INPUT_FILES_PATH: $input holds no files; give a directory of text files"; fi
else
    files=("$input")
fi

python="$(run_python)"
export GLOG_v="${GLOG_v:-3}"
for file in "${files[@]}"; do
    if [[ -d $input ]]; then name="${file#"$input"/}"; else name="${file##*/}"; fi
    # AA/wiki_00 of a tree becomes AA_wiki_00: training reads one directory. (A comma would separate output files.)
    "$python" "$ROOT/src/generate_mindrecord/generate_pretrain_mindrecord.py" --input_file "$file" \
        --output_file "$output/${name//[\/,]/_}.$format" --vocab_file "$vocab" "$@"
done
