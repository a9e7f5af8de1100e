#!/usr/bin/env bash
# Makes one record file of each text file. Usage is in the message below.
set -euo pipefail

usage() {
    cat >&2 <<'USAGE'
usage: bash generate_pretrain_mindrecords.sh INPUT_FILES_PATH OUTPUT_FILES_PATH VOCAB_FILE [OPTION...]

  INPUT_FILES_PATH   directory of text files, or one text file
  OUTPUT_FILES_PATH  directory for the record files, one for each text file, <name>.mindrecord
  VOCAB_FILE         vocabulary that the model is trained on
  OPTION             further options of generate_pretrain_mindrecord.py, such as --max_seq_length 512

Example: bash generate_pretrain_mindrecords.sh /path/wiki-clean-aa /path/output/ /path/bert-base-uncased-vocab.txt
PYTHON names the interpreter; by default it is .venv/bin/python of this repository, or else python3.
USAGE
    exit 2
}

(( $# >= 3 )) || usage
input=$1 output=$2 vocab=$3
shift 3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
[[ -n ${PYTHON:-} || -x $python ]] || python=python3

format=mindrecord
previous=
for option in "$@"; do
    [[ $previous != --dataset_format ]] || format=$option
    [[ $option != --dataset_format=* ]] || format=${option#*=}
    previous=$option
done

files=()
if [[ -d $input ]]; then
    while IFS= read -r -d '' file; do
        files+=("$file")
    done < <(find "$input" -type f ! -name '.*' -print0 | sort -z)
    (( ${#files[@]} )) || { echo "error: $input holds no files; give a directory of text files" >&2; exit 2; }
else
    files=("$input")
fi

for file in "${files[@]}"; do
    name=${file#"$input"/}
    [[ -d $input ]] || name=${file##*/}
    # AA/wiki_00 of a tree becomes AA_wiki_00: one directory of records is what training reads.
    "$python" "$here/generate_pretrain_mindrecord.py" --input_file "$file" \
        --output_file "${output%/}/${name//\//_}.$format" --vocab_file "$vocab" "$@"
done
