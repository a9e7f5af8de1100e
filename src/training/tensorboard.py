"""The numbers of a run for TensorBoard: loss, learning rate, loss scale, samples/s, scores, and predictions as text.

TensorBoard reads files of records framed as in TFRecord, each an `Event`. tensorboardX knows these messages; its own
writer hands them to a thread that a full disk ends without a word, and that a killed process takes along with what
waits in it. So the records are written here, each at once.
"""

import socket
import struct
import time
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.files import failing_in_one_line, make_output_dir, write_all
from src.training.callbacks import Recorder, RunPlan, StepReport

_VERSION = "brain.Event:2"  # of the format; the first event of a file says it


class TensorBoard(Recorder):
    """Write an event file into a directory, by which `tensorboard --logdir` shows the run.

    A resumed run says where it begins; TensorBoard then leaves out what an earlier one wrote of the same steps.
    """

    takes_text = True

    def __init__(self, directory: str | Path, plan: RunPlan) -> None:
        """Open a file in the directory (given by tensorboard_dir)."""
        self._events, self._summaries, self._text_summary, self._checksum = _import_tensorboardx()
        folder = make_output_dir(directory, "tensorboard_dir")
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
        with failing_in_one_line(self.path):
            self.file = self.path.open("ab", buffering=0)
        self._write(file_version=_VERSION)
        begin = self._events.SessionLog(status=self._events.SessionLog.START)
        self._write(step=plan.start_step + 1, session_log=begin)

    def on_step(self, report: StepReport) -> None:
        """Write the numbers of the step."""
        rate = {"train/samples_per_second": report.samples_per_second} if report.samples_per_second else {}
        self._scalars(report.step, {"train/loss": report.loss, "train/learning_rate": report.learning_rate,
                                    "train/loss_scale": report.loss_scale, **rate})  # the first step has no rate yet

    def write(self, step: int, **values: float) -> None:
        """Write the scores of an evaluation."""
        self._scalars(step, {f"evaluation/{name}": value for name, value in values.items()})

    def write_text(self, step: int, text: str) -> None:
        """Write what was predicted."""
        if text:
            self._write(step=step, summary=self._text_summary("predictions", text))

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        Summary = self._summaries.Summary
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)
                                                      for name, value in values.items()]))

    def _write(self, **fields: Any) -> None:  # noqa: ANN401
        event = self._events.Event(wall_time=time.time(), **fields)
        write_all(self.file, self._framed(event.SerializeToString()), self.path)

    def _framed(self, data: bytes) -> bytes:
        """A record as in TFRecord: its length and its data, each followed by its checksum."""
        length = struct.pack("<Q", len(data))
        return b"".join([length, struct.pack("<I", self._checksum(length)), data,
                         struct.pack("<I", self._checksum(data))])


def _import_tensorboardx() -> tuple[Any, ...]:
    """What makes events, summaries, summaries of text, and checksums as TFRecord has them."""
    try:
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import masked_crc32c
        from tensorboardX.summary import text
    except ImportError as error:
        raise UserError("tensorboard_dir needs the package tensorboardX; install it with: pip install -r "
                        "requirements-tensorboard.txt") from error
    return event_pb2, summary_pb2, text, masked_crc32c
