"""The training loop: MindSpore's `Model.train`, with the numbers, signals and callbacks of a run."""

import math
import os
import signal
import threading
from collections.abc import Sequence

from mindspore import nn
from mindspore.train import Callback as MindSporeCallback
from mindspore.train import Model, RunContext

from src.dataset import BatchStream, create_dataset, user_errors_of
from src.model_utils.communication import any_rank
from src.training.callbacks import Callback, RunPlan, StepMeter, arguments_of


def train(step_cell: nn.Cell, stream: BatchStream, plan: RunPlan, callbacks: Sequence[MindSporeCallback],
          sink_steps: int = 0, rank_size: int = 1) -> None:
    """Run every step that is left in the stream.

    Args:
        step_cell: takes a step's batch and returns (loss, overflow, loss scale); has an `optimizer`.
        stream: yields one batch per optimizer step.
        plan: the steps that the stream is for.
        callbacks: ours, which are told in the order of their `place`, and any others of MindSpore, which come after
            them. They are told of every step, or of every `sink_steps`-th; ours are closed at the end, whatever ended
            the run.
        sink_steps: steps that the device takes from its queue before it returns to the host (Ascend and GPU only),
            lowered to a divisor of the steps that are left; 0 hands over every batch from the host.
        rank_size: processes of the run; each of them calls this.

    Raises:
        UserError: a record does not fit the network, or a callback stopped the run.
        KeyboardInterrupt: Ctrl-C or SIGTERM on any rank; the step in progress was finished first, by all of them.
    """
    ours = sorted((callback for callback in callbacks if isinstance(callback, Callback)), key=lambda c: c.place)
    others = [callback for callback in callbacks if not isinstance(callback, Callback)]
    steps = len(stream)
    sink_steps = math.gcd(steps, sink_steps) if sink_steps else 0
    signals = _Signals()
    begin, end = _BeginOfStep(signals, stream, StepMeter(plan, step_cell.optimizer)), _EndOfStep(signals, rank_size)
    try:
        if not steps:
            for callback in ours:
                callback.on_begin()
            return
        with signals, user_errors_of(stream):
            Model(step_cell).train(steps // sink_steps if sink_steps else 1, create_dataset(stream, sink_steps > 0),
                                   [begin, *ours, *others, end],
                                   dataset_sink_mode=sink_steps > 0, sink_size=sink_steps or -1)
        any_rank(False, rank_size)  # a rank that is gone must not end the run while another one still saves
        if end.interrupted:
            raise KeyboardInterrupt(f"interrupted after step {begin.step} of {plan.total_steps}")
    finally:
        for callback in ours:
            callback.close()


class _BeginOfStep(MindSporeCallback):
    """Told first of each step: refuses a bad batch, and turns what the step gave into a report for all others."""

    def __init__(self, signals: "_Signals", stream: BatchStream, meter: StepMeter) -> None:
        super().__init__()
        self.signals = signals
        self.stream = stream
        self.meter = meter
        self.step = meter.plan.start_step

    def on_train_begin(self, run_context: RunContext) -> None:
        arguments_of(run_context).interrupted = False

    def on_train_step_begin(self, run_context: RunContext) -> None:
        self.stream.check(arguments_of(run_context).cur_step_num)

    def on_train_step_end(self, run_context: RunContext) -> None:
        self.signals.listen()
        arguments = arguments_of(run_context)
        self.step = self.meter.plan.start_step + arguments.cur_step_num
        arguments.step_report = self.meter.report(self.step, arguments.net_outputs)


class _EndOfStep(MindSporeCallback):
    """Told last of each step: ends the run when the user wants it to end, on all ranks behind the same step."""

    def __init__(self, signals: "_Signals", rank_size: int) -> None:
        super().__init__()
        self.signals = signals
        self.rank_size = rank_size
        self.interrupted = False

    def on_train_step_end(self, run_context: RunContext) -> None:
        if any_rank(self.signals.asked_for, self.rank_size):
            self.interrupted = arguments_of(run_context).interrupted = True
            run_context.request_stop()


class _Signals:
    """Ctrl-C or SIGTERM while training: the first lets the step finish and ends the loop, the second acts at once."""

    def __init__(self) -> None:
        self.asked_for = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
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
        signal.signal(signal.SIGINT, signal.default_int_handler)


os.register_at_fork(after_in_child=_give_signals_back)
