"""Make records of a GLUE task or of one's own labelled texts, for classification or regression."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, run_script  # noqa: E402
from src.generate_mindrecord.classification_records import (  # noqa: E402
    DataSet,
    ExampleColumns,
    Summary,
    run_generator,
    to_examples,
)
from src.generate_mindrecord.options import (  # noqa: E402
    SPLIT_OPTIONS,
    SWITCH,
    DataFile,
    add_data_set_options,
    add_record_options,
)
from src.records.text_rows import Row, read_csv, read_json_lines, read_tsv  # noqa: E402
from src.tasks.labelled_text import LabelledText, Labels  # noqa: E402

OWN_TASKS = {  # how to read the files, and what their names end in
    "jsonl": (read_json_lines, (".jsonl", ".json")),
    "tsv": (read_tsv, (".tsv",)),
    "csv": (read_csv, (".csv",)),
}


def _files(*suffixes: str) -> tuple[DataFile, ...]:
    return tuple(DataFile(split, split, tuple(split + suffix for suffix in suffixes)) for split in SPLIT_OPTIONS)


@dataclass(frozen=True)
class GlueTask:
    """The form of a GLUE task's files.

    Attributes:
        columns: the columns that matter.
        labels: the classes in the order of their ids; None for regression.
        header: the columns of the training and development data where these files have no header.
        has_broken_rows: whether the published files hold rows with a wrong number of fields; everybody leaves them out.
        files: the files of the data set.
    """

    columns: ExampleColumns
    labels: Sequence[str] | None
    header: Sequence[str] | None = None
    has_broken_rows: bool = False
    files: Sequence[DataFile] = field(default=_files(".tsv"))


_NUMBERED = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")

GLUE_TASKS = {
    "cola": GlueTask(ExampleColumns("sentence", None, "label"), _NUMBERED,
                     header=("source", "label", "mark", "sentence")),
    "mrpc": GlueTask(ExampleColumns("#1 String", "#2 String", "Quality"), _NUMBERED),
    "sst-2": GlueTask(ExampleColumns("sentence", None, "label"), _NUMBERED),
    "sts-b": GlueTask(ExampleColumns("sentence1", "sentence2", "score"), None),
    "rte": GlueTask(ExampleColumns("sentence1", "sentence2", "label"), _ENTAILMENT),
    "qnli": GlueTask(ExampleColumns("question", "sentence", "label"), _ENTAILMENT),
    "qqp": GlueTask(ExampleColumns("question1", "question2", "is_duplicate"), _NUMBERED, has_broken_rows=True),
    "mnli": GlueTask(ExampleColumns("sentence1", "sentence2", "gold_label"),
                     ("contradiction", "entailment", "neutral"),
                     files=(DataFile("train", "train", ("train.tsv",)),
                            DataFile("dev", "dev", ("dev_matched.tsv",)),
                            DataFile("dev", "dev_mismatched", ("dev_mismatched.tsv",)),
                            DataFile("test", "test", ("test_matched.tsv",)),
                            DataFile("test", "test_mismatched", ("test_mismatched.tsv",)))),
    "wnli": GlueTask(ExampleColumns("sentence1", "sentence2", "label"), _NUMBERED),
}
TASK_NAMES = (*GLUE_TASKS, *OWN_TASKS)


class GlueData(DataSet):
    """The files of a GLUE task as published."""

    def __init__(self, task_name: str, data_dir: str | Path) -> None:
        self.task = GLUE_TASKS[task_name]
        super().__init__(data_dir, self.task.files, self.task.columns)

    def examples(self, file: DataFile, path: Path) -> Iterator[LabelledText]:
        """The examples of one file."""
        return to_examples(self._rows(file, path), self.columns, may_lack_labels=file.split == "test",
                           may_be_empty=True)  # as published, some are

    def _rows(self, file: DataFile, path: Path) -> Iterator[Row]:
        header = None if file.split == "test" else self.task.header
        left_out = [] if self.task.has_broken_rows else None
        yield from read_tsv(path, header, left_out)
        if left_out:
            print(f"note: {len(left_out)} rows of {path} with a wrong number of fields were left out, the first on "
                  f"line {left_out[0]}")

    def labels(self) -> Labels | None:
        """The classes; None for regression."""
        return Labels(self.task.labels, "GLUE") if self.task.labels else None


class OwnData(DataSet):
    """Labelled texts of the user's own, in a file for each split.

    Args:
        task_name: the form of the files.
        data_dir: their directory.
        columns: their columns.
        label_file: the labels in the order of their ids; without it those of the training data count, sorted.
        regression: whether the labels are numbers to predict.
    """

    def __init__(self, task_name: str, data_dir: str | Path, columns: ExampleColumns, label_file: str | None = None,
                 regression: bool = False) -> None:
        if regression and label_file:
            raise UserError("--label_file names classes, which --regression true has none of; give one of the two")
        self._read, suffixes = OWN_TASKS[task_name]
        super().__init__(data_dir, _files(*suffixes), columns)
        self.label_file = label_file
        self.is_regression = regression

    def examples(self, file: DataFile, path: Path) -> Iterator[LabelledText]:
        """The examples of one file."""
        return to_examples(self._read(path), self.columns, may_lack_labels=file.split == "test")

    def labels(self) -> Labels | None:
        """The classes; None for regression."""
        if self.is_regression:
            return None
        if self.label_file:
            return Labels.from_file(self.label_file, self.columns.label)
        return self.collect_labels("give --label_file")


def open_data(task_name: str, data_dir: str | Path, *, text_column: str | None = None,
              text_pair_column: str | None = None, label_column: str | None = None, label_file: str | None = None,
              regression: bool | None = None) -> DataSet:
    """The data set that the options of the command describe.

    All but the first two are for one's own files, None if not given.

    Raises:
        UserError: options that are for one's own files come with a GLUE task.
    """
    if task_name in GLUE_TASKS:
        own = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column,
               "label_file": label_file, "regression": regression}
        for option, value in own.items():
            if value is not None:
                raise UserError(f"--{option} is for your own files; the columns and labels of {task_name} are known")
        return GlueData(task_name, data_dir)
    columns = ExampleColumns(text_column or "text", text_pair_column, label_column or "label")
    return OwnData(task_name, data_dir, columns, label_file, bool(regression))


def parse_task_name(text: str) -> str:
    """A task's name in any case, with or without the hyphen of SST-2 and STS-B."""
    name = text.lower()
    return {"sst2": "sst-2", "stsb": "sts-b"}.get(name, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make records of a GLUE task or of your own labelled texts.",
                                     allow_abbrev=False)
    add = parser.add_argument
    add("--task_name", required=True, type=parse_task_name, choices=TASK_NAMES, metavar="NAME",
        help=f"a GLUE task ({', '.join(GLUE_TASKS)}), or the form of your own files: {', '.join(OWN_TASKS)}")
    add_data_set_options(parser, "the train, dev and test files: a GLUE task's as published (.tsv), or your own with a "
                                 "header line (.tsv, .csv) or one JSON object a line (.jsonl or .json)")
    add_record_options(parser)
    own = parser.add_argument_group("your own files (--task_name jsonl, tsv or csv)").add_argument
    own("--text_column", metavar="NAME", help="column of the text (default text)")
    own("--text_pair_column", metavar="NAME", help="column of the second text of pairs")
    own("--label_column", metavar="NAME", help="column of the label (default label)")
    own("--label_file", metavar="FILE", help="the labels in the order of their ids, one a line (default: those of the "
                                             "training data, sorted)")
    own("--regression", **SWITCH, help="the labels are numbers to predict (default false)")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Summary]:
    """Run the command with `argv`, by default the process's own arguments."""
    return run_generator(_parser(), open_data, argv)


if __name__ == "__main__":
    run_script(main)
