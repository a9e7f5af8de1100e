"""Make records of TNEWS (Chinese news titles of 15 classes) from its JSON files: MindRecord or TFRecord."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, run_script  # noqa: E402
from src.generate_mindrecord.classification_records import (  # noqa: E402
    ExampleColumns,
    Labels,
    Summary,
    to_examples,
    write_data_set,
)
from src.generate_mindrecord.options import (  # noqa: E402
    SPLIT_OPTIONS,
    DataFile,
    RecordOptions,
    add_data_set_options,
    add_record_options,
    choose_files,
)
from src.generate_mindrecord.text_rows import read_json_lines  # noqa: E402

COLUMNS = ExampleColumns(text="sentence", pair=None, label="label")
FILES = tuple(DataFile(split, split, (f"{split}.json",)) for split in SPLIT_OPTIONS)


def find_labels(data_dir: str | Path) -> Labels:
    """The classes in the order of `labels.json`, or without this file those of `train.json`, sorted."""
    given, train = Path(data_dir, "labels.json"), Path(data_dir, "train.json")
    if given.is_file():
        return Labels.from_file(given, COLUMNS.label)
    if not train.is_file():
        raise UserError(f"--data_dir: neither labels.json nor train.json in {data_dir}, so the labels are unknown; add "
                        f"one of them")
    return Labels.collect(to_examples(read_json_lines(train), COLUMNS), str(train))


def generate(data_dir: str | Path, options: RecordOptions, do_train: bool | None = None, do_eval: bool | None = None,
             do_predict: bool | None = None) -> list[Summary]:
    """Make the record files; see the options of the command for the meaning of the arguments.

    Raises:
        UserError: a file is missing, a line is wrong, or an output cannot be written.
    """
    chosen = choose_files(data_dir, FILES, {"do_train": do_train, "do_eval": do_eval, "do_predict": do_predict})
    examples = {file.record_name: to_examples(read_json_lines(path), COLUMNS, may_lack_labels=file.split == "test")
                for file, path in chosen.items()}
    return write_data_set(options, examples, find_labels(data_dir), has_pairs=False)


def main(argv: Sequence[str] | None = None) -> list[Summary]:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description="Make records of TNEWS.", allow_abbrev=False)
    parser.add_argument("--task_name", default="tnews", type=str.lower, choices=["tnews"], help="tnews")
    add_data_set_options(parser, "train.json, dev.json, test.json (JSON lines with sentence and label) and, for the "
                                 "order of the labels, labels.json")
    add_record_options(parser)
    given = vars(parser.parse_args(argv))
    given.pop("task_name")
    options = RecordOptions(**{field.name: given.pop(field.name) for field in fields(RecordOptions)})
    return generate(options=options, **given)


if __name__ == "__main__":
    run_script(main)
