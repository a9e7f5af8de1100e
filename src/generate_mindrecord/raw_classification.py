"""Records of sentence classification from the raw files that users have: tables, a GLUE folder, TNEWS."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UserError
from src.generate_mindrecord.classification_records import (
    ExampleColumns,
    open_tokenizer,
    to_examples,
    write_data_set,
)
from src.generate_mindrecord.generate_glue_mindrecord import GLUE_TASKS, GlueData, parse_task_name
from src.generate_mindrecord.raw_data import Maker, find_split
from src.records.cache import fingerprint
from src.records.text_columns import OPTIONS, choose_columns
from src.records.text_rows import read_table
from src.tasks.labelled_text import LABELS_NAME, LabelledText, Labels

ENDINGS = (".tsv", ".csv", ".jsonl", ".json")
LABEL_LIST = "labels.json"  # of TNEWS


class RawTexts(NamedTuple):
    """A raw file, and how it is read."""

    path: Path
    columns: ExampleColumns
    examples: Callable[[], Iterator[LabelledText]]
    form: str  # for the user
    labels: Labels | None = None  # where the form of the file says which there are
    is_regression: bool = False  # the same


class ClassificationMaker(Maker):
    """See `Maker`. Labels are those of `label_file_path`, of the form of the file, or those of the training data."""

    labels: Labels | None = None
    is_known = False  # what the labels are, if there are any

    def plan(self, path: Path, option: str, is_training: bool) -> tuple[Mapping[str, Any], Callable[[Path], None]]:
        """See `Maker.plan`."""
        raw = self._open(path, option, is_training)
        if not self.is_known:
            self._find_labels(raw, option, is_training)
        names = self.labels.names if self.labels else "numbers" if self.is_known else "those that occur"

        def write(folder: Path) -> None:
            print(f"{raw.path}: {raw.form}")
            options = self.options(folder)
            labels = self.labels if self.is_known else self._collect(raw)
            summary, = write_data_set({"train" if is_training else "dev": raw.examples()}, labels, options,
                                      open_tokenizer(options, raw.columns), [raw.path])
            what = f"{len(labels)} labels" if labels else "labels are numbers (regression)"
            print(f"{raw.path}: {summary.num_examples} examples, the longest of {summary.longest} tokens; "
                  f"{summary.num_truncated} cut to {options.max_seq_length}; {what}")

        return {"source": fingerprint(raw.path), "columns": raw.columns, "labels": names, "read_as": raw.form}, write

    def made(self, folder: Path, is_training: bool) -> None:
        """The labels of the training data count for the evaluation."""
        if not self.is_known:
            self.labels, self.is_known = Labels.from_file(folder / LABELS_NAME), True

    def _open(self, path: Path, option: str, is_training: bool) -> RawTexts:
        config = self.config
        given = {name: config[name] for name in OPTIONS}
        folder = path if path.is_dir() else path.parent
        task = parse_task_name(folder.name)
        if task in GLUE_TASKS and not any(given.values()):
            data = GlueData(task, folder)
            wanted = {"train"} if is_training else {"dev", "test"}
            for file in data.files:
                found = next((folder / name for name in file.names if (folder / name).is_file()), None)
                if found and (found == path or (path.is_dir() and file.split in wanted)):
                    labels = data.labels()
                    return RawTexts(found, data.columns, lambda file=file, found=found: data.examples(file, found),
                                    f"as published in GLUE's {folder.name}", labels, labels is None)
        path = find_split(path, option, is_training, ENDINGS)
        first = next(read_table(path), None)
        if first is None:
            raise UserError(f"{option}: {path} holds no row; expected a header line and rows, or JSON lines")
        chosen = choose_columns(list(first.fields), given, f"{path}", wants_label=True)
        columns = ExampleColumns(chosen.text, chosen.pair, chosen.label or "")
        return RawTexts(path, columns, lambda: to_examples(read_table(path), columns), str(chosen))

    def _find_labels(self, raw: RawTexts, option: str, is_training: bool) -> None:
        """The labels, if they are known before all examples are read."""
        config = self.config
        is_regression = raw.is_regression or (config.num_class == 1 and config.is_explicit("num_class"))
        beside = raw.path.with_name(LABEL_LIST)
        if is_regression:
            self.is_known = True
        elif config.label_file_path:
            self.labels = Labels.from_file(config.label_file_path, raw.columns.label)
        elif raw.labels:
            self.labels = raw.labels
        elif beside.is_file():
            self.labels = Labels.from_file(beside, raw.columns.label)
        elif not is_training:
            raise UserError(f"label_file_path is not set; to evaluate on raw data, {raw.path}, give the labels that "
                            f"the network was trained with, one a line in the order of their ids")
        self.is_known = self.is_known or self.labels is not None

    def _collect(self, raw: RawTexts) -> Labels:
        labels = Labels.collect(raw.examples(), str(raw.path))
        if all(_is_fraction(name) for name in labels.names) and any("." in name for name in labels.names):
            raise UserError(f"{raw.path}: the labels are numbers with fractions ({labels.names[0]}, …); set num_class "
                            f"to 1 for regression, or to {len(labels)} for as many classes and give label_file_path")
        return labels


def _is_fraction(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
