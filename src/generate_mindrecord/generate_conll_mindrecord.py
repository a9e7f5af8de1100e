"""Make records of files with a token and its tag on each line, such as those of CoNLL-2003, and their label file.

The first column is the token, the last one the tag, in any of the schemes BIO, BIOES and BMES; a blank line ends a
sentence. By default tokens are words, which are cut into the pieces of the vocabulary: a word's pieces are all part of
its entity. With `--unit character` the tokens are joined without spaces, as for Chinese characters.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, run_script  # noqa: E402
from src.generate_mindrecord.ner_records import (  # noqa: E402
    NerOptions,
    add_ner_options,
    read_tagged_files,
    write_data_set,
)

SPLITS = ("train", "dev", "test")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description="Make named-entity records of 'token tag' lines.", allow_abbrev=False)
    for split in SPLITS:
        parser.add_argument(f"--{split}_file", metavar="FILE", help=f"becomes {split}.mindrecord")
    add_ner_options(parser, unit="word")
    given = vars(parser.parse_args(argv))
    options = NerOptions.take_from(given)
    chosen = {split: Path(given[f"{split}_file"]) for split in SPLITS if given[f"{split}_file"]}
    if not chosen:
        raise UserError("none of --train_file, --dev_file and --test_file is given; name at least one file")
    splits = read_tagged_files(chosen.values(), options.unit)
    source = ", ".join(map(str, chosen.values()))
    write_data_set(dict(zip(chosen, splits, strict=True)), options.labels(splits, source), options,
                   list(chosen.values()))


if __name__ == "__main__":
    run_script(main)
