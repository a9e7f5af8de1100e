"""Make records of the ChineseNER files example.train, example.dev and example.test, and their label file.

Each line of these files is a character and its tag, and a blank line ends a sentence.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import run_script  # noqa: E402
from src.generate_mindrecord.ner_records import (  # noqa: E402
    NerOptions,
    add_ner_options,
    read_tagged_files,
    write_data_set,
)
from src.generate_mindrecord.options import (  # noqa: E402
    SPLIT_OPTIONS,
    DataFile,
    add_data_set_options,
    choose_files,
)

FILES = tuple(DataFile(split, split, (f"example.{split}",)) for split in SPLIT_OPTIONS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description="Make named-entity records of ChineseNER.", allow_abbrev=False)
    add_data_set_options(parser, "example.train, example.dev and example.test")
    add_ner_options(parser, max_seq_length=202)
    given = vars(parser.parse_args(argv))
    options = NerOptions.take_from(given)
    chosen = choose_files(given["data_dir"], FILES, given)
    splits = read_tagged_files(chosen.values(), options.unit)
    files = {file.record_name: sentences for file, sentences in zip(chosen, splits, strict=True)}
    write_data_set(files, options.labels(splits, given["data_dir"]), options, list(chosen.values()))


if __name__ == "__main__":
    run_script(main)
