"""Make records of TNEWS (Chinese news titles of 15 classes) from its JSON files: MindRecord or TFRecord."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import run_script  # noqa: E402
from src.generate_mindrecord.classification_records import (  # noqa: E402
    DataSet,
    ExampleColumns,
    Summary,
    run_generator,
    to_examples,
)
from src.generate_mindrecord.options import (  # noqa: E402
    SPLIT_OPTIONS,
    DataFile,
    add_data_set_options,
    add_record_options,
)
from src.records.text_rows import read_json_lines  # noqa: E402
from src.tasks.labelled_text import LabelledText, Labels  # noqa: E402


class TnewsData(DataSet):
    """TNEWS as published: JSON lines, and the labels in a file of their own."""

    def __init__(self, data_dir: str | Path) -> None:
        super().__init__(data_dir, [DataFile(split, split, (f"{split}.json",)) for split in SPLIT_OPTIONS],
                         ExampleColumns(text="sentence", pair=None, label="label"))

    def examples(self, file: DataFile, path: Path) -> Iterator[LabelledText]:
        """The examples of one file."""
        return to_examples(read_json_lines(path), self.columns, may_lack_labels=file.split == "test")

    def labels(self) -> Labels:
        """The classes in the order of `labels.json`, or without this file those of `train.json`, sorted."""
        path = self.data_dir / "labels.json"
        if path.is_file():
            labels = Labels.from_file(path, self.columns.label)
        else:
            labels = self.collect_labels("add labels.json")
            path = self.data_dir / "train.json"
        return Labels(labels.names, labels.source, readable_names(path, labels))


def readable_names(path: Path, labels: Labels) -> dict[str, str]:
    """What the rows of a file call the labels, which are numbers: 100 is news_story; empty if not all have a name."""
    names = {str(row.fields.get("label")): str(row.fields.get("label_desc") or "").strip()
             for row in read_json_lines(path)}
    names = {label: names[label] for label in labels.names if names.get(label)}
    # Two labels of one name could not be told apart, and a name of several lines is none.
    is_usable = len(set(names.values())) == len(labels) and not any("\n" in name for name in names.values())
    return names if is_usable else {}


def main(argv: Sequence[str] | None = None) -> list[Summary]:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description="Make records of TNEWS.", allow_abbrev=False)
    parser.add_argument("--task_name", default="tnews", type=str.lower, choices=["tnews"], help="tnews")
    add_data_set_options(parser, "train.json, dev.json, test.json (JSON lines with sentence and label) and, for the "
                                 "order of the labels, labels.json")
    add_record_options(parser)
    return run_generator(parser, lambda data_dir, task_name: TnewsData(data_dir), argv)


if __name__ == "__main__":
    run_script(main)
