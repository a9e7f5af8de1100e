"""The training loop: MindSpore's `Model.train`, with the numbers, signals and callbacks of a run."""

import math
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

from mindspore import Tensor, nn
from mindspore.train import Callback as MindSporeCallback
from mindspore.train import Model, RunContext

from src.dataset import BatchStream, create_dataset, user_errors_of
from src.model_utils.communication import any_rank
from src.training.callbacks import Callback, RunPlan, StepMeter, StepReport, arguments_of


def train(step_cell: nn.Cell, stream: BatchStream, plan: RunPlan, callbacks: Sequence[MindSporeCallback],
          sink_steps: int = 0, rank_size: int = 1, report_every: Sequence[int] = (1,)) -> None:
    """Run every step that is left in the stream.

    Args:
        step_cell: takes a step's batch and returns (loss, overflow, loss scale); has an `optimizer`.
        stream: yields one batch per optimizer step.
        plan: the steps that the stream is for.
        callbacks: ours, which are told in the order of their `place`, and any others of MindSpore, which come after
            them. They are told of every step, or of every `sink_steps`-th; ours are closed at the end, whatever ended
            the run.
        sink_steps: steps that the device takes from its queue before it returns to the host (Ascend and GPU only);
            what does not fill so many at the end of the run is handed over batch by batch, for which MindSpore's
            callbacks are told of a second training; 0 hands over every batch from the host.
        rank_size: processes of the run; each of them calls this.
        report_every: steps at whose multiples the reports of the steps up to there are wanted, as they are at the end.
            With a sink, or callbacks that are not ours, a report is made whenever the device returns.

    Raises:
        UserError: a record does not fit the network, or a callback stopped the run.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP on any rank; all of them finished the steps up to the next report.
    """
    ours = _in_order(callbacks)
    others = [callback for callback in callbacks if not isinstance(callback, Callback)]
    periods = (1,) if others or sink_steps else report_every
    signals = _Signals()
    begin, end = _BeginOfStep(signals, StepMeter(plan, step_cell.optimizer), periods), _EndOfStep(signals, rank_size)
    try:
        if not len(stream):
            for callback in ours:
                callback.on_begin()
            return
        with signals:
            for part, sink_size in _parts(stream, sink_steps):
                if not begin.stopped:
                    begin.part = part
                    _train_part(step_cell, part, [begin, *ours, *others, end], sink_size)
        any_rank(False, rank_size)  # a rank that is gone must not end the run while another one still saves
        if end.interrupted:
            raise KeyboardInterrupt(f"interrupted after step {begin.step} of {plan.total_steps}")
    finally:
        for callback in ours:
            callback.close()


def end_again(callbacks: Sequence[MindSporeCallback], plan: RunPlan) -> None:
    """Tell our callbacks of the end of a run that has no step left: it may have been killed before it was told."""
    steps = plan.start_step
    last = StepReport(steps, plan.epochs_at(steps), math.nan, False, math.nan, math.nan, 0.0, 0.0)
    ours = _in_order(callbacks)
    try:
        for callback in ours:
            callback.on_end(last)
    finally:
        for callback in ours:
            callback.close()


def _in_order(callbacks: Sequence[MindSporeCallback]) -> list[Callback]:
    """Ours, in the order of their places."""
    return sorted((callback for callback in callbacks if isinstance(callback, Callback)), key=lambda c: c.place)


def _parts(stream: BatchStream, sink_steps: int) -> list[tuple[BatchStream, int]]:
    """The stream in parts with their sizes of a sink: a graph that takes several steps takes no fewer at the end."""
    if not sink_steps:
        return [(stream, 0)]
    middle = stream.start_step + len(stream) // sink_steps * sink_steps
    parts = [(stream.part(stream.start_step, middle), sink_steps), (stream.part(middle, stream.total_steps), 0)]
    return [(part, sink_size) for part, sink_size in parts if len(part)]


def _train_part(step_cell: nn.Cell, part: BatchStream, callbacks: Sequence[MindSporeCallback], sink_size: int) -> None:
    if not sink_size:
        with user_errors_of(part):
            Model(step_cell).train(1, create_dataset(part), callbacks, dataset_sink_mode=False)
        return
    queue = _Queue()
    try:
        with user_errors_of(part):
            Model(step_cell).train(len(part) // sink_size, create_dataset(part, to_device_queue=True),
                                   [queue, *callbacks], dataset_sink_mode=True, sink_size=sink_size)
    except BaseException:
        queue.release()
        raise


class _Queue(MindSporeCallback):
    """Knows the device's queue, to release it when an error ends the training, as MindSpore does at a good end only.

    It is told first, so that it knows the queue before any other callback can fail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.helper: Any = None

    def on_train_step_begin(self, run_context: RunContext) -> None:
        arguments = arguments_of(run_context)
        if arguments.dataset_sink_mode:
            self.helper = arguments.dataset_helper

    def release(self) -> None:
        if self.helper is not None:
            self.helper.stop_send()
            self.helper.release()


class _BeginOfStep(MindSporeCallback):
    """Told first of each step: refuses a bad batch, and turns what the steps gave into reports for all others."""

    part: BatchStream  # that is trained on

    def __init__(self, signals: "_Signals", meter: StepMeter, periods: Sequence[int]) -> None:
        super().__init__()
        self.signals = signals
        self.meter = meter
        self.periods = periods
        self.step = self.reported_step = meter.plan.start_step
        self.ended: list[tuple[int, Sequence[Tensor]]] = []  # steps that are not reported yet
        self.stopped = False

    def on_train_begin(self, run_context: RunContext) -> None:
        arguments = arguments_of(run_context)
        arguments.interrupted = False
        arguments.cur_step_num = self.part.start_step - self.meter.plan.start_step
        arguments.begins = arguments.cur_step_num == 0

    def on_train_step_begin(self, run_context: RunContext) -> None:
        self.part.check(self.meter.plan.start_step + arguments_of(run_context).cur_step_num - self.part.start_step)

    def on_train_step_end(self, run_context: RunContext) -> None:
        self.signals.listen()
        arguments = arguments_of(run_context)
        self.step = self.meter.plan.start_step + arguments.cur_step_num
        self.ended.append((self.step, arguments.net_outputs))
        arguments.step_reports = []
        if self.wants_reports():
            arguments.step_reports = self.meter.reports(self.ended)
            arguments.step_report = arguments.step_reports[-1]
            self.ended, self.reported_step = [], self.step

    def on_train_end(self, run_context: RunContext) -> None:
        self.stopped = run_context.get_stop_requested()
        arguments_of(run_context).ends = self.stopped or self.part.total_steps == self.meter.plan.total_steps

    def wants_reports(self) -> bool:
        """Whether the steps that ended are to be reported now; the same on all ranks."""
        is_last = self.step == self.meter.plan.total_steps
        return is_last or any(self.step // period > self.reported_step // period for period in self.periods)


class _EndOfStep(MindSporeCallback):
    """Told last of each step: ends the run when the user wants it to end, on all ranks behind the same step."""

    def __init__(self, signals: "_Signals", rank_size: int) -> None:
        super().__init__()
        self.signals = signals
        self.rank_size = rank_size
        self.interrupted = False

    def on_train_step_end(self, run_context: RunContext) -> None:
        if arguments_of(run_context).step_reports and any_rank(self.signals.asked_for, self.rank_size):
            self.interrupted = arguments_of(run_context).interrupted = True
            run_context.request_stop()


class _Signals:
    """Ctrl-C, SIGTERM or SIGHUP in training: the first lets the step finish and ends the loop, another acts at once."""

    def __init__(self) -> None:
        self.asked_for = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                        if in_main_thread and signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)}

    def __enter__(self) -> "_Signals":
        self.listen()
        _LISTENING.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LISTENING.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals over, after each step anew: MindSpore turns Ctrl-C into SIGTERM whenever it runs a graph."""
        for number in self._before:
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        if self.asked_for:
            raise KeyboardInterrupt
        self.asked_for = True


_LISTENING: list[_Signals] = []


def _give_signals_back() -> None:
    """Let signals end a process that a callback forked, as MindSpore's SummaryCollector forks its writers.

    No handler in Python could do it for sure: when SIGTERM comes just before the process begins to wait for a lock, the
    signal is noted and the wait goes on.
    """
    if _LISTENING:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


os.register_at_fork(after_in_child=_give_signals_back)
