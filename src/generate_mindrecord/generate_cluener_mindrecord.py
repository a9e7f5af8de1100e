"""Make records of the CLUENER2020 files train.json, dev.json and test.json, and the label file of its ten types."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import run_script  # noqa: E402
from src.generate_mindrecord.ner_records import NerOptions, add_ner_options, write_data_set  # noqa: E402
from src.generate_mindrecord.options import (  # noqa: E402
    SPLIT_OPTIONS,
    DataFile,
    add_data_set_options,
    choose_files,
)
from src.tasks.ner.corpora import CLUENER_TYPES, read_cluener  # noqa: E402
from src.tasks.ner.labels import LabelScheme  # noqa: E402

FILES = tuple(DataFile(split, split, (f"{split}.json",)) for split in SPLIT_OPTIONS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description="Make named-entity records of CLUENER2020.", allow_abbrev=False)
    parser.add_argument("--task_name", default="cluener", type=str.lower, choices=["cluener"], help="cluener")
    add_data_set_options(parser, "train.json, dev.json and test.json (which has no labels: its label_ids are all 0)")
    add_ner_options(parser)
    given = vars(parser.parse_args(argv))
    options = NerOptions.take_from(given)
    chosen = choose_files(given["data_dir"], FILES, given)
    files = {file.record_name: list(read_cluener(path)) for file, path in chosen.items()}
    labels = options.labels([], "") if options.label_file else LabelScheme(CLUENER_TYPES, "the types of CLUENER")
    write_data_set(files, labels, options, list(chosen.values()))


if __name__ == "__main__":
    run_script(main)
