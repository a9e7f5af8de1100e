"""Make question-answering records from SQuAD files: train.mindrecord and dev.mindrecord, or the same as TFRecord."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, run_script  # noqa: E402
from src.files import check_output, make_output_dir  # noqa: E402
from src.model_utils.switch import SWITCH  # noqa: E402
from src.records.about import accompany  # noqa: E402
from src.records.columns import DATASET_FORMATS  # noqa: E402
from src.records.writer import RecordWriter, write_schema_json  # noqa: E402
from src.tasks.squad.examples import read_squad  # noqa: E402
from src.tasks.squad.features import FeatureOptions, SquadFeatures, report_lines  # noqa: E402
from src.tokenization import FullTokenizer  # noqa: E402

SUFFIXES = {"mindrecord": "mindrecord", "tfrecord": "tf_record"}  # as the documented commands name the files
_ROWS_AT_ONCE = 2048  # 9 MB at a length of 384


def generate(squad_file: str | Path, output_file: Path, tokenizer: FullTokenizer, options: FeatureOptions,
             is_training: bool, version_2_with_negative: bool = False, dataset_format: str = "mindrecord") -> int:
    """Make one record file, and for TFRecord its schema beside it; return the number of records.

    Raises:
        UserError: the SQuAD file is missing or malformed, none of its questions gives a record, or the output cannot
            be written.
    """
    option = "--train_file" if is_training else "--predict_file"
    squad = read_squad(squad_file, option=option, version_2_with_negative=version_2_with_negative,
                       answers_required=is_training)
    features = SquadFeatures(squad, tokenizer, options, is_training)
    print("\n".join(report_lines(features)), flush=True)
    with RecordWriter(output_file, features.columns, dataset_format) as writer:
        for first in range(0, features.num_rows, _ROWS_AT_ONCE):
            writer.write(features.read(np.arange(first, min(first + _ROWS_AT_ONCE, features.num_rows))))
    if dataset_format == "tfrecord":
        write_schema_json(output_file.with_name(f"{output_file.stem}_schema.json"), features.columns,
                          features.num_rows)
    return features.num_rows


def _parser() -> argparse.ArgumentParser:
    defaults = FeatureOptions()
    parser = argparse.ArgumentParser(description="Make question-answering records from SQuAD files.",
                                     allow_abbrev=False)
    add = parser.add_argument
    add("--vocab_file", required=True, metavar="FILE", help="vocabulary that the model was trained on")
    add("--train_file", metavar="FILE", help="SQuAD file to train on, such as train-v1.1.json")
    add("--predict_file", metavar="FILE", help="SQuAD file to evaluate on, such as dev-v1.1.json")
    add("--output_dir", required=True, metavar="DIR", help="directory for train.mindrecord and dev.mindrecord")
    add("--do_train", help="make the training records (default: if --train_file is given)", **SWITCH)
    add("--do_predict", help="make the evaluation records (default: if --predict_file is given)", **SWITCH)
    add("--version_2_with_negative", default=False, help="questions may have no answer, as in SQuAD 2.0 "
        "(default false)", **SWITCH)
    add("--max_seq_length", type=int, default=defaults.max_seq_length, metavar="N", help="default %(default)s")
    add("--doc_stride", type=int, default=defaults.doc_stride, metavar="N",
        help="tokens between the beginnings of two windows of a long context (default %(default)s)")
    add("--max_query_length", type=int, default=defaults.max_query_length, metavar="N",
        help="longer questions lose their end (default %(default)s)")
    add("--do_lower_case", default=True, help="for an uncased vocabulary (default true)", **SWITCH)
    add("--dataset_format", choices=DATASET_FORMATS, default="mindrecord", help="default %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    given = _parser().parse_args(argv)
    options = FeatureOptions(given.max_seq_length, given.doc_stride, given.max_query_length)
    jobs = [("train", given.train_file, given.do_train), ("dev", given.predict_file, given.do_predict)]
    jobs = [(name, file) for name, file, wanted in jobs if (file is not None if wanted is None else wanted)]
    if not jobs:
        raise UserError("nothing to do: give --train_file, --predict_file or both")
    tokenizer = FullTokenizer(given.vocab_file, given.do_lower_case)
    output_dir = make_output_dir(given.output_dir, "--output_dir")
    outputs = [check_output(output_dir / f"{name}.{SUFFIXES[given.dataset_format]}", "--output_dir")
               for name, _ in jobs]
    for (name, file), output_file in zip(jobs, outputs, strict=True):
        started = time.monotonic()
        records = generate(file or "", output_file, tokenizer, options, name == "train",
                           given.version_2_with_negative, given.dataset_format)
        accompany([output_file], given.vocab_file,
                  {"task": "squad", "do_lower_case": given.do_lower_case, "max_seq_length": given.max_seq_length,
                   "source": file})
        seconds = time.monotonic() - started
        print(f"Wrote {records} records to {output_file}: {seconds:.1f} s, {records / seconds:.0f} records/s",
              flush=True)


if __name__ == "__main__":
    run_script(main)
