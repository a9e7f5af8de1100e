"""The training loop with a step cell of one multiplication."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.train import Callback as MindSporeCallback
from mindspore.train import RunContext
from mindspore.train.callback import _InternalCallbackParam
from toy_pretraining import toy_batch, write_records

from src.dataset import PRETRAIN_TYPES, BatchStream, open_records
from src.errors import UserError
from src.records.columns import Limit
from src.training import loop
from src.training.callbacks import Callback, RunPlan, StepReport
from src.training.optimizer import WarmUpPolynomialDecay
from src.training.run import train

pytestmark = pytest.mark.usefixtures("graph_mode")


class Step(nn.Cell):
    """The "loss" is the sum of a batch's ids."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = SimpleNamespace(learning_rate=WarmUpPolynomialDecay(0.1), global_step=Tensor(0))
        self.scale = Tensor(1.0, ms.float32)
        self.no = Tensor(False)

    def construct(self, *columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return columns[0].astype(ms.float32).sum(), self.no, self.scale


class Witness(Callback):
    """Notes what it is told."""

    def __init__(self, fails_at: int = 0) -> None:
        self.events = []
        self.fails_at = fails_at

    def on_begin(self) -> None:
        self.events.append("begin")

    def on_step(self, report: StepReport) -> None:
        if report.step == self.fails_at:
            raise UserError("stop")
        self.events.append((report.step, report.loss))

    def on_end(self, last: StepReport) -> None:
        self.events.append(f"end {last.step}")

    def on_interrupt(self, last: StepReport) -> None:
        self.events.append(f"interrupt {last.step}")

    def close(self) -> None:
        self.events.append("close")


@pytest.fixture(scope="module")
def records_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("training") / "records", toy_batch(20))


def stream_and_plan(records_dir: Path, start_step: int = 0, **arguments: object) -> tuple[BatchStream, RunPlan]:
    records = open_records(records_dir, "mindrecord", PRETRAIN_TYPES)
    return (BatchStream(records, 4, 6, seed=0, start_step=start_step, **arguments),
            RunPlan(start_step, 6, 4, records.num_rows))


@pytest.mark.parametrize("sink_steps", [0, 10])  # on CPU MindSpore takes the batches of a sink one by one
@pytest.mark.parametrize("start_step", [0, 2])
def test_every_step_that_is_left_is_run_and_told(records_dir: Path, sink_steps: int, start_step: int) -> None:
    stream, plan = stream_and_plan(records_dir, start_step)
    expected = [(start_step + number, float(batch[0].sum())) for number, batch in enumerate(stream, start=1)]
    witness = Witness()
    train(Step(), stream, plan, [witness], sink_steps=sink_steps and len(stream))
    assert witness.events == ["begin", *expected, "end 6", "close"]


class Queue:
    """A device's queue, as MindSpore's loop deals with it."""

    def __init__(self) -> None:
        self.events = []

    def stop_send(self) -> None:
        self.events.append("stop")

    def release(self) -> None:
        self.events.append("release")


class ModelWithSink:
    """In place of MindSpore's `Model` of a device with a queue: it returns to the host after each `sink_size` steps."""

    queue: Queue

    def __init__(self, network: nn.Cell) -> None:
        self.network = network

    def train(self, epoch: int, dataset: ms.dataset.Dataset, callbacks: list[MindSporeCallback], *,
              dataset_sink_mode: bool, sink_size: int = 1) -> None:
        arguments = _InternalCallbackParam()
        arguments.cur_step_num, arguments.dataset_sink_mode = 0, dataset_sink_mode
        if dataset_sink_mode:
            arguments.dataset_helper = self.queue
        context, batches = RunContext(arguments), iter(dataset)
        epochs = epoch if dataset_sink_mode else len(dataset)
        assert epochs * sink_size == len(dataset)

        def tell(what: str) -> None:
            for callback in callbacks:
                getattr(callback, what)(context)

        tell("on_train_begin")
        while epochs and not context.get_stop_requested():
            epochs -= 1
            arguments.cur_step_num += sink_size
            tell("on_train_step_begin")
            for _ in range(sink_size):
                arguments.net_outputs = self.network(*next(batches))
            tell("on_train_step_end")
        if dataset_sink_mode:
            self.queue.stop_send()
            self.queue.release()
        tell("on_train_end")


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(loop, "Model", ModelWithSink)
    ModelWithSink.queue = Queue()
    return ModelWithSink.queue


def losses_by_step(stream: BatchStream) -> dict[int, float]:
    return {stream.start_step + number: float(batch[0].sum()) for number, batch in enumerate(stream, start=1)}


@pytest.mark.parametrize(("start_step", "told"), [(0, [4, 5, 6]), (2, [6]), (3, [4, 5, 6])])
def test_steps_that_do_not_fill_a_sink_are_run_without(records_dir: Path, queue: Queue, start_step: int,
                                                       told: list[int]) -> None:
    stream, plan = stream_and_plan(records_dir, start_step)
    losses = losses_by_step(stream)
    witness = Witness()
    train(Step(), stream, plan, [witness], sink_steps=4)
    assert witness.events == ["begin", *((step, losses[step]) for step in told), "end 6", "close"]
    assert queue.events == ([] if start_step == 3 else ["stop", "release"])


def test_an_error_in_a_callback_releases_the_queue(records_dir: Path, queue: Queue) -> None:
    stream, plan = stream_and_plan(records_dir)
    with pytest.raises(UserError, match="^stop$"):
        train(Step(), stream, plan, [Witness(fails_at=4)], sink_steps=2)
    assert queue.events == ["stop", "release"]


def test_an_error_before_the_first_step_releases_the_queue(records_dir: Path, queue: Queue) -> None:
    class Refuse(MindSporeCallback):
        def on_train_step_begin(self, run_context: RunContext) -> None:
            raise UserError("no")

    stream, plan = stream_and_plan(records_dir)
    with pytest.raises(UserError, match="^no$"):
        train(Step(), stream, plan, [Refuse()], sink_steps=2)
    assert queue.events == ["stop", "release"]


def test_a_run_that_ends_early_leaves_out_what_does_not_fill_a_sink(records_dir: Path, queue: Queue) -> None:
    stream, plan = stream_and_plan(records_dir)
    witness = Witness()
    with pytest.raises(KeyboardInterrupt, match="^interrupted after step 4 of 6$"):
        train(Step(), stream, plan, [Signal(signal.SIGINT, at=4), witness], sink_steps=4)
    assert [event for event in witness.events if isinstance(event, str)] == ["begin", "interrupt 4", "close"]


def test_reports_come_together_when_one_is_wanted(records_dir: Path) -> None:
    stream, plan = stream_and_plan(records_dir)
    losses = losses_by_step(stream)
    witness, reads = Witness(), []

    class Watch(Witness):
        def on_train_step_end(self, run_context: RunContext) -> None:
            reads.append([report.step for report in run_context.original_args().step_reports])

    train(Step(), stream, plan, [witness, Watch()], report_every=(4, 5))
    assert reads == [[], [], [], [1, 2, 3, 4], [5], [6]]
    assert witness.events == ["begin", *losses.items(), "end 6", "close"]


def test_callbacks_of_mindspore_want_every_report(records_dir: Path) -> None:
    stream, plan = stream_and_plan(records_dir)
    seen = []

    class Foreign(MindSporeCallback):
        def on_train_step_end(self, run_context: RunContext) -> None:
            seen.append(run_context.original_args().step_report.step)

    train(Step(), stream, plan, [Foreign()], report_every=(4,))
    assert seen == [1, 2, 3, 4, 5, 6]


def test_nothing_left_is_an_end_without_a_last_step(records_dir: Path) -> None:
    stream, plan = stream_and_plan(records_dir, start_step=6)
    witness = Witness()
    train(Step(), stream, plan, [witness])
    assert witness.events == ["begin", "close"]


def test_callbacks_are_told_in_order_and_closed_when_one_stops_the_run(records_dir: Path) -> None:
    stream, plan = stream_and_plan(records_dir)
    first, second = Witness(fails_at=3), Witness()
    with pytest.raises(UserError, match="^stop$"):
        train(Step(), stream, plan, [first, second])
    assert [event[0] for event in second.events[1:-1]] == [1, 2]
    assert first.events[-1] == second.events[-1] == "close"


class Signal(Callback):
    """Sends signals in a step."""

    def __init__(self, *numbers: signal.Signals, at: int = 2) -> None:
        self.numbers = numbers
        self.at = at

    def on_step(self, report: StepReport) -> None:
        if report.step == self.at:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_interrupt_lets_the_step_finish(records_dir: Path, number: signal.Signals) -> None:
    stream, plan = stream_and_plan(records_dir)
    witness, handler = Witness(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="^interrupted after step 2 of 6$"):
        train(Step(), stream, plan, [Signal(number), witness])
    assert [event[0] for event in witness.events[1:-2]] == [1, 2]
    assert witness.events[-2:] == ["interrupt 2", "close"]
    assert signal.getsignal(number) is handler


def test_second_interrupt_acts_at_once(records_dir: Path) -> None:
    stream, plan = stream_and_plan(records_dir)
    witness = Witness()
    with pytest.raises(KeyboardInterrupt, match="^$"):
        train(Step(), stream, plan, [Signal(signal.SIGINT, signal.SIGTERM), witness])
    assert [event[0] for event in witness.events[1:-1]] == [1]
    assert witness.events[-1] == "close"


def say_and_sleep(connection: Connection) -> None:
    connection.send("at work")
    time.sleep(60)


class Fork(Callback):
    """Forks a process, as MindSpore's SummaryCollector does for its writers, and ends it as Python ends a pool."""

    def on_step(self, report: StepReport) -> None:
        fork = multiprocessing.get_context("fork")
        ours, its = fork.Pipe()
        process = fork.Process(target=say_and_sleep, args=(its,))
        process.start()
        assert ours.poll(20) and ours.recv() == "at work"
        process.terminate()
        process.join(20)
        self.exit_code = process.exitcode
        process.kill()


def test_processes_of_callbacks_can_be_ended(records_dir: Path) -> None:
    stream, plan = stream_and_plan(records_dir, start_step=5)
    fork = Fork()
    train(Step(), stream, plan, [fork])
    assert fork.exit_code == -signal.SIGTERM


@pytest.mark.parametrize("sink_steps", [0, 6])
def test_bad_record_ends_the_run_with_its_own_message(records_dir: Path, sink_steps: int,
                                                      capfd: pytest.CaptureFixture) -> None:
    stream, plan = stream_and_plan(records_dir, limits={"input_ids": Limit(10, "only ten words")})
    witness = Witness()
    with pytest.raises(UserError, match=r"toy\.mindrecord: record \d+: input_ids holds \d+, .*only ten words"):
        train(Step(), stream, plan, [witness], sink_steps)
    assert witness.events == ["begin", "close"]
    if not sink_steps:  # MindSpore's pipeline writes its own report of the failure first
        assert capfd.readouterr().err == ""


def test_batches_reach_the_step_in_the_order_of_the_columns(records_dir: Path) -> None:
    seen = []

    class Spy(Step):
        def __call__(self, *columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            seen.append([(column.dtype, column.shape) for column in columns])
            return Tensor(np.float32(1.0)), self.no, self.scale

    stream, plan = stream_and_plan(records_dir, start_step=5)
    train(Spy(), stream, plan, [])
    sequence, label, masked, weights = (ms.int32, (4, 16)), (ms.int32, (4, 1)), (ms.int32, (4, 3)), (ms.float32, (4, 3))
    assert seen == [[sequence] * 3 + [label] + [masked] * 2 + [weights]]
