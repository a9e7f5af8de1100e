"""Make named-entity records of the MSRA corpus, XML in which <NAMEX TYPE="PERSON"> marks an entity."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, when this file is run by its path
from src.errors import UserError, run_script  # noqa: E402
from src.files import check_output  # noqa: E402
from src.generate_mindrecord.ner_records import NerOptions, write_files  # noqa: E402
from src.generate_mindrecord.options import RecordOptions  # noqa: E402
from src.model_utils.switch import SWITCH  # noqa: E402
from src.records.columns import DATASET_FORMATS  # noqa: E402
from src.tasks.ner.corpora import read_msra  # noqa: E402


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make named-entity records of the MSRA corpus.", allow_abbrev=False)
    add = parser.add_argument
    add("--data_dir", required=True, metavar="FILE", help="msra_dataset.xml")
    add("--vocab_file", required=True, metavar="FILE", help="vocabulary of the checkpoint to fine-tune")
    add("--save_path", required=True, metavar="FILE", help="record file to write; label_file is written beside it")
    add("--label2id", default="", metavar="FILE",
        help="label file: the types as the XML names them, one a line in the order of their ids (default: those of the "
             "whole corpus)")
    add("--max_seq_len", type=int, default=RecordOptions.max_seq_length, metavar="N",
        help="tokens of a record, [CLS] and [SEP] included; longer sentences become several records "
             "(default %(default)s)")
    add("--class_filter", default="NAMEX", metavar="NAMES",
        help="elements that mark entities, separated by commas (default %(default)s)")
    add("--split_begin", type=float, default=0.0, metavar="P", help="first sentence, as a share of all (default 0.0)")
    add("--split_end", type=float, default=1.0, metavar="P", help="end of the sentences (default 1.0)")
    add("--do_lower_case", default=True, **SWITCH, help="for an uncased vocabulary (default true)")
    add("--dataset_format", choices=DATASET_FORMATS, default="mindrecord", help="default %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    given = _parser().parse_args(argv)
    if not 0 <= given.split_begin < given.split_end <= 1:
        raise UserError(f"--split_begin {given.split_begin} and --split_end {given.split_end} select nothing; expected "
                        f"0 <= split_begin < split_end <= 1")
    output = check_output(given.save_path, "--save_path")
    records = RecordOptions(given.vocab_file, str(output.parent), given.do_lower_case, given.max_seq_len,
                            given.dataset_format)
    options = NerOptions(records, label_file=given.label2id)
    sentences = read_msra(given.data_dir, given.class_filter)
    first, end = (round(share * len(sentences)) for share in (given.split_begin, given.split_end))
    write_files({output: sentences[first:end]}, options.labels([sentences], given.data_dir), options,
                [given.data_dir])


if __name__ == "__main__":
    run_script(main)
