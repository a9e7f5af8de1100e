"""Convert the TFRecord files of a directory to MindRecord, several files at a time. Needs no TensorFlow.

The columns are taken from each file: whatever task it was made for, its numbers are kept (int64 becomes int32, floats
are float32 in both formats). Every record is read back and compared with its original. The output directory gets all
the files at the end, or none if anything went wrong:

    python src/tools/parallel_tfrecord_to_mindrecord.py --input_tfrecord_dir tfrecords --output_mindrecord_dir records
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, first_line, run_script  # noqa: E402
from src.files import atomic_files, make_output_dir  # noqa: E402
from src.records.mindrecord import MindRecordFile  # noqa: E402
from src.records.reader import RECORD_FILE_NAMES  # noqa: E402
from src.records.tfrecord import TFRecordFile  # noqa: E402
from src.records.writer import RecordWriter  # noqa: E402
from src.worker_processes import Mark, Worker  # noqa: E402

TFRECORD_NAME = RECORD_FILE_NAMES["tfrecord"]
ROWS_AT_ONCE = 2048  # read, written and compared; a few megabytes
BYTES_WORTH_A_WORKER = 100_000_000  # some seconds of work; a process takes that long to load MindSpore


class FilePair(NamedTuple):
    """A file to convert."""

    source: Path
    target: Path  # in a temporary directory


class Conversion(NamedTuple):
    """What a run has made."""

    outputs: list[Path]
    num_rows: int


class SourceFile(TFRecordFile):
    """A TFRecord file of which nothing may be overlooked."""

    def kinds(self, row: int) -> dict[str, str]:
        """What each column of a record holds: "numbers", "byte strings" or "" (nothing), in the file's order."""
        kinds = {}
        for entry in self._entries(np.array([row])):
            begin, size = int(entry.key_starts[0]), int(entry.key_sizes[0])
            name = bytes(self._bytes[begin:begin + size]).decode("utf-8", "replace")
            numbers = "numbers" if entry.sizes[0] else ""
            kinds[name] = "byte strings" if entry.kinds[0] == 0x0A else numbers  # Feature.bytes_list
        return kinds

    def check_number_of_columns(self, rows: np.ndarray, expected: int) -> None:
        """Raise `UserError` for a record with more columns than the first; reading finds those with fewer."""
        counts = np.zeros(len(rows), np.int64)
        for entry in self._entries(rows):
            counts[entry.rows] += 1
        wrong = np.flatnonzero(counts != expected)
        if len(wrong):
            row = int(rows[wrong[0]])
            raise UserError(f"{self.path}: record {row}: has the columns {', '.join(self.kinds(row))}, but record 0 "
                            f"{', '.join(self.kinds(0))}; all records of a file must have the same columns")

    def numeric_columns(self) -> dict[str, tuple[str, int]]:
        """The columns to convert: all but those of byte strings.

        Raises:
            UserError: there is none, or one that MindRecord cannot hold.
        """
        for name, kind in self.kinds(0).items():
            if not kind:
                raise UserError(f"{self.path}: record 0: column {name} is empty; MindRecord needs the same number of "
                                f"values, at least one, in every record")
            if kind == "numbers" and not re.fullmatch("[0-9a-zA-Z_]+", name):
                raise UserError(f"{self.path}: MindRecord does not allow the column name {name!r}, only English "
                                f"letters, digits and _; make the file anew with another name")
        columns = self.columns()
        if not columns:
            raise UserError(f"{self.path}: record 0: no column of numbers; expected the records of a training task")
        return columns


# ---------------------------------------------------------------- one file

def convert_file(task: FilePair) -> Iterator[int]:
    """Write one MindRecord file and compare it with its source; yields numbers of records twice, for either step.

    Raises:
        UserError: a record is damaged or unlike the first one, or the file cannot be written or read back.
    """
    source = SourceFile(task.source)
    columns, num_names = source.numeric_columns(), len(source.kinds(0))
    with RecordWriter(task.target, columns, "mindrecord") as writer:
        for rows in _batches(len(source)):
            batch = source.read(rows, columns)
            source.check_number_of_columns(rows, num_names)
            writer.write(batch)
            yield len(rows)
    written = MindRecordFile(task.target)
    if len(written) != len(source):
        raise UserError(f"{task.source}: {len(source)} records, but {len(written)} in the MindRecord file; is the disk "
                        f"sound?")
    for rows in _batches(len(source)):
        _compare(task.source, rows, source.read(rows, columns), written.read(rows, columns))
        yield len(rows)


def _batches(num_rows: int) -> Iterator[np.ndarray]:
    for begin in range(0, num_rows, ROWS_AT_ONCE):
        yield np.arange(begin, min(begin + ROWS_AT_ONCE, num_rows))


def _compare(source: Path, rows: np.ndarray, expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        equal = (values.view(np.int32) == found[name].view(np.int32)).all(axis=1)  # bit by bit: NaN is equal to itself
        if not equal.all():
            raise UserError(f"{source}: record {rows[~equal][0]}: column {name} was read back with other values than "
                            f"were written; is the disk sound?")


# ---------------------------------------------------------------- all files

def convert(input_dir: str | Path, output_dir: str | Path, num_workers: int | None = None) -> Conversion:
    """Convert all TFRecord files of a directory, and below it, to MindRecord files at the same places of another one.

    Args:
        input_dir: the directory, or a single TFRecord file.
        output_dir: where the MindRecord files go; files with their names are replaced.
        num_workers: processes that convert a file each; None takes as many as there are cores and work for.

    Raises:
        UserError: no TFRecord file there, one is damaged, or the output cannot be written.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"--num_workers is {num_workers}, expected at least 1")
    targets = _name_targets(*_find_sources(Path(input_dir)))  # relative to the output directory
    num_rows = sum(_check_source(source) for source in targets)
    output_dir = make_output_dir(output_dir, "--output_mindrecord_dir")
    for target in targets.values():
        if (output_dir / target).is_dir():
            raise UserError(f"--output_mindrecord_dir: {output_dir / target} is a directory, but a file of this name "
                            f"is to be written; move it away")
    if num_workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        num_workers = min(cores, 1 + sum(source.stat().st_size for source in targets) // BYTES_WORTH_A_WORKER)
    with ExitStack() as stack:
        temporary = {folder: stack.enter_context(
            atomic_files(make_output_dir(output_dir / folder, "--output_mindrecord_dir")))
            for folder in sorted({target.parent for target in targets.values()})}
        tasks = [FilePair(source, temporary[target.parent] / target.name) for source, target in targets.items()]
        # Each record counts half when it is written and half when it is compared.
        progress = stack.enter_context(tqdm(total=2 * num_rows, unit="record", unit_scale=0.5, disable=None))
        with closing(_convert_all(tasks, min(num_workers, len(tasks)))) as steps:
            for step in steps:
                progress.update(step)
    return Conversion([output_dir / target for target in targets.values()], num_rows)


def _find_sources(path: Path) -> tuple[Path, list[Path]]:
    """The TFRecord files at or below a place, and the directory to which their names are relative."""
    if path.is_file():
        return path.parent, [path]
    if not path.is_dir():
        raise UserError(f"--input_tfrecord_dir: there is no {path}; give the directory of the TFRecord files")
    files = [file for file in sorted(path.rglob("*"))
             if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)]
    sources = [file for file in files if TFRECORD_NAME.search(file.name) and "mindrecord" not in file.name.lower()
               and file.suffix not in (".db", ".json")]
    if not sources:
        converted = next((file for file in files if "mindrecord" in file.name.lower()), None)
        hint = f"; {converted.name} is a MindRecord file already" if converted else ""
        raise UserError(f"--input_tfrecord_dir: no TFRecord file in {path}; expected files with tfrecord, tf_record or "
                        f"tf-record in their names{hint}")
    return path, sources


def _name_targets(directory: Path, sources: Iterable[Path]) -> dict[Path, Path]:
    """Where each file goes, relative to the output directory: "mindrecord" in the place of each "tfrecord".

    Not only the ending changes, as training would take a file for TFRecord that still has the word in its name.
    """
    targets: dict[Path, Path] = {}
    source_of: dict[Path, Path] = {}
    for source in sources:
        name, count = TFRECORD_NAME.subn("mindrecord", source.name)
        target = source.relative_to(directory).with_name(name if count else f"{name}.mindrecord")
        if target in source_of:
            raise UserError(f"--input_tfrecord_dir: {source_of[target]} and {source.name} would both become "
                            f"{target.name}; rename one of them")
        targets[source], source_of[target] = target, source
    return targets


def _check_source(source: Path) -> int:
    """Find a truncated or unfit file before any work is done; return the number of records."""
    file = SourceFile(source)
    columns = file.numeric_columns()
    left_out = [name for name in file.kinds(0) if name not in columns]
    if left_out:
        print(f"note: {source}: byte strings are of no use in training; left out: {', '.join(left_out)}")
    return len(file)


# ---------------------------------------------------------------- processes

def _convert_all(tasks: Sequence[FilePair], num_workers: int) -> Generator[int, None, None]:
    """Convert the files, the largest first; yields as `convert_file` does."""
    waiting = sorted(tasks, key=lambda task: task.source.stat().st_size)  # taken from the end
    if num_workers == 1:
        while waiting:
            yield from convert_file(waiting.pop())
        return
    workers: dict[Connection, Worker] = {}
    try:
        for _ in range(num_workers):
            worker = Worker(_converter, name_of=_name_of)
            workers[worker.connection] = worker
            worker.send(())
            worker.begin(waiting.pop())
        busy = list(workers)
        while busy:
            ready = wait(busy)
            for connection in [connection for connection in busy if connection in ready]:
                step = workers[connection].receive()
                if step is not Mark.END:
                    yield step
                elif waiting:
                    workers[connection].begin(waiting.pop())
                else:
                    busy.remove(connection)
    finally:
        for worker in workers.values():
            worker.stop()


def _converter() -> Callable[[FilePair], Iterator[int]]:
    """What a worker does with a file."""
    return convert_file


def _name_of(task: FilePair) -> str:
    return str(task.source)


# ---------------------------------------------------------------- command

def main(argv: Sequence[str] | None = None) -> Conversion:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add = parser.add_argument
    add("--input_tfrecord_dir", required=True, metavar="DIR",
        help="files at and below it with tfrecord, tf_record or tf-record in their names; or a single file")
    add("--output_mindrecord_dir", required=True, metavar="DIR",
        help="where x.mindrecord and x.mindrecord.db of each x.tfrecord go")
    add("--num_workers", type=int, metavar="N",
        help="files converted at the same time (default: one for each core, fewer for small files)")
    arguments = parser.parse_args(argv)
    summary = convert(arguments.input_tfrecord_dir, arguments.output_mindrecord_dir, arguments.num_workers)
    print(f"Wrote {summary.num_rows} records to {len(summary.outputs)} MindRecord "
          f"file{'s'[:len(summary.outputs) > 1]} in {arguments.output_mindrecord_dir}, each compared with its original")
    return summary


if __name__ == "__main__":
    run_script(main)
