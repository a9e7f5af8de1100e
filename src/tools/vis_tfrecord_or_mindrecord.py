"""Print the records of a TFRecord or MindRecord file as text. Needs neither TensorFlow nor MindSpore.

One line names the file and its columns; then come the records, a line for each column of numbers (columns of text and
bytes are not shown). Records are read as they are printed, so files of any size will do:

    python src/tools/vis_tfrecord_or_mindrecord.py --file_name a.mindrecord --vis_option vis_mindrecord > mindrecord.txt
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, first_line, run_script  # noqa: E402
from src.records.mindrecord import MindRecordFile  # noqa: E402
from src.records.reader import RecordFile  # noqa: E402
from src.records.tfrecord import TFRecordFile  # noqa: E402

READERS = {"vis_tfrecord": TFRecordFile, "vis_mindrecord": MindRecordFile}
ROWS_AT_ONCE = 1024


def describe(file_name: str | Path, vis_option: str, num_samples: int | None = None) -> Iterator[str]:
    """The text of a record file, line by line.

    Args:
        file_name: the record file.
        vis_option: "vis_tfrecord" or "vis_mindrecord".
        num_samples: only the first so many records; None takes all.

    Raises:
        UserError: no such file, another format, or (after the lines of the records before it) a damaged record.
    """
    if num_samples is not None and num_samples < 1:
        raise UserError(f"--num_samples is {num_samples}, expected at least 1")
    file = _open(Path(file_name), vis_option)
    columns = file.columns()
    listed = ", ".join(f"{name} {kind}[{length}]" for name, (kind, length) in columns.items())
    yield f"{file.path}: number of records: {len(file)}; columns: {listed or 'none of numbers'}"
    types = {name: ("float32" if kind.startswith("float") else "int32", length)
             for name, (kind, length) in columns.items()}
    width = max(map(len, columns), default=0)
    end = min(len(file), num_samples or len(file))
    for begin in range(0, end, ROWS_AT_ONCE):
        for rows, batch in _read_up_to_damage(file, np.arange(begin, min(begin + ROWS_AT_ONCE, end)), types):
            for number, row in enumerate(rows):
                yield f"record {row}"
                for name, values in batch.items():
                    yield f"  {name:{width}}  {' '.join(map(str, values[number]))}"


def _open(path: Path, vis_option: str) -> RecordFile:
    try:
        return READERS[vis_option](path)
    except UserError as error:
        (other,) = READERS.keys() - {vis_option}
        try:
            READERS[other](path)
        except UserError:
            raise error from None
        raise UserError(f"--vis_option is {vis_option}, but {path} is of the other format; set --vis_option to "
                        f"{other}") from error


def _read_up_to_damage(file: RecordFile, rows: np.ndarray, columns: dict[str, tuple[str, int]]
                       ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Read records, in halves where one cannot be read, so that all before that one are delivered."""
    try:
        batch = file.read(rows, columns)
    except UserError:
        if len(rows) == 1:
            raise
        for half in np.array_split(rows, 2):
            yield from _read_up_to_damage(file, half, columns)
    else:
        yield rows, batch


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add = parser.add_argument
    add("--file_name", required=True, metavar="FILE", help="the record file")
    add("--vis_option", required=True, choices=sorted(READERS, reverse=True), help="the format of the file")
    add("--num_samples", type=int, metavar="N", help="print only the first N records (default: all)")
    for line in describe(**vars(parser.parse_args(argv))):
        print(line)


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly, as `cat` does, when `| head` has seen enough
    run_script(main)
