"""The training loop: its step, start or go on, take a batch, run a step, tell the callbacks."""

import math
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mindspore import Tensor, nn
from mindspore.train import Callback as MindSporeCallback
from mindspore.train import Model, RunContext

from src.bert_model import BertConfig
from src.callbacks import Callback, RunPlan, StepMeter, StepReport
from src.checkpoint import Checkpoint, find_newest, load_checkpoint_path, restore_training
from src.communication import MeanOfGradients, any_rank, copy_from_first_rank, from_first_rank
from src.cpu_kernels.library import report_missing, usable
from src.dataset import BatchStream, create_dataset, user_errors_of
from src.model_utils.config import Config
from src.model_utils.device_adapter import DeviceInfo
from src.optimizer import Optimizer
from src.train_step import LossScale, TrainStep

Outputs = Sequence[Tensor]  # (loss, overflow, loss scale) of a step


def configured_step(config: Config, device: DeviceInfo, network: nn.Cell, optimizer: Optimizer) -> TrainStep:
    """The step that trains the network: loss scale, accumulation, clipping and devices as configured."""
    if device.target == "CPU" and device.rank == 0:
        report_missing()
    mean = MeanOfGradients(device.rank_size) if device.rank_size > 1 else None
    return TrainStep(
        network, optimizer,
        loss_scale=LossScale(float(config.loss_scale_value), config.scale_factor, config.scale_window)
        if config.enable_lossscale == "true" else None,
        accumulation_steps=config.accumulation_steps,
        clip_norm=config.max_grad_norm if config.enable_global_norm == "true" else None,
        grad_reducer=mean,
        allreduce_post_accumulation=config.allreduce_post_accumulation == "true",
        seed=config.seed,
        rank=device.rank,
        loss_reducer=mean)


def operators_of(device: DeviceInfo, bert_config: BertConfig) -> dict[str, str | None]:
    """What a run's recipe says of its operators: those of `src.cpu_kernels` draw dropout masks of their own."""
    used = device.target == "CPU" and usable()
    return {"cpu_operators": str(bert_config.compute_type).lower() if used else None}


def starting_step(step_cell: nn.Cell, output_dir: Path, resume: bool, checkpoint_path: str,
                  recipe: Mapping[str, object]) -> int:
    """Load what the user asks for and say what it was; return the number of optimizer steps that are done already.

    Args:
        step_cell: the cell that a training's checkpoint restores; of a checkpoint without training state it takes the
            weights, and its training starts at step 0.
        output_dir: where the run's own checkpoints are.
        resume: go on from the newest of them, if there is one; it wins over `checkpoint_path`.
        checkpoint_path: file or directory to start from; "" for none.
        recipe: what the run shares with the one it continues, for the same digits; differences are named.

    Raises:
        UserError: the checkpoint cannot be read or does not fit.
    """
    found = find_newest(output_dir) if resume else None
    if found:
        restore_training(step_cell, found)
    elif checkpoint_path:
        found = load_checkpoint_path(checkpoint_path, step_cell)
    if not isinstance(found, Checkpoint):
        if found:
            print(found, flush=True)  # weights alone: what was loaded and what not
        return 0
    report_resumption(found, recipe)
    return found.step


def start_as_first_rank(step_cell: nn.Cell, device: DeviceInfo, load: Callable[[], int]) -> int:
    """Let rank 0 `load` what training starts from, and give all ranks its weights, state and step.

    So the ranks start alike by construction, and only the host of rank 0 needs the files.
    """
    start_step = from_first_rank(load() if device.rank == 0 else None, device.rank, device.rank_size)
    parameters = [*step_cell.network.get_parameters(), *step_cell.state().values()]
    copy_from_first_rank(parameters, device.rank, device.rank_size)
    return start_step


def report_resumption(found: Checkpoint, recipe: Mapping[str, object]) -> None:
    """Say which checkpoint a run goes on from, and in what its recipe differs from the run that saved it."""
    print(f"resumed from {found.path} after step {found.step}", flush=True)
    changed = [f"{key} {found.metadata.get(key)} -> {value}" for key, value in recipe.items()
               if found.metadata.get(key) != value]
    if changed:
        print(f"continues differently from the run that saved it: {', '.join(changed)}", file=sys.stderr, flush=True)


def train(step_cell: nn.Cell, stream: BatchStream, plan: RunPlan, callbacks: Sequence[Callback],
          sink_steps: int = 0, rank_size: int = 1) -> None:
    """Run every step that is left in the stream.

    Args:
        step_cell: takes a step's batch and returns (loss, overflow, loss scale); has an `optimizer`.
        stream: yields one batch per optimizer step.
        plan: the steps that the stream is for.
        callbacks: told of every step, or of every `sink_steps`-th; closed at the end, whatever ended the run.
        sink_steps: steps that the device takes from its queue before it returns to the host (Ascend and GPU only);
            0 hands over every batch from the host.
        rank_size: processes of the run; each of them calls this.

    Raises:
        UserError: a record does not fit the network, or a callback stopped the run.
        KeyboardInterrupt: Ctrl-C or SIGTERM on any rank; the step in progress was finished first, by all of them.
    """
    meter = StepMeter(plan, step_cell.optimizer)
    last: StepReport | None = None
    interruption = _Interruption()

    def tell(steps_of_run: int, outputs: Outputs) -> None:
        nonlocal last
        interruption.listen()
        last = meter.report(plan.start_step + steps_of_run, outputs)
        for callback in callbacks:
            callback.on_step(last)
        if any_rank(interruption.asked_for, rank_size):
            for callback in callbacks:
                callback.on_interrupt(last)
            any_rank(False, rank_size)  # a rank that is gone must not end the run while another one saves
            raise KeyboardInterrupt(f"interrupted after step {last.step} of {plan.total_steps}")

    try:
        for callback in callbacks:
            callback.on_begin()
        with interruption:
            if sink_steps:
                _run_from_device_queue(step_cell, stream, tell, sink_steps)
            else:
                for number, columns in enumerate(stream, start=1):
                    tell(number, step_cell(*map(Tensor, columns)))
                    if any(callback.wants_to_stop for callback in callbacks):
                        break
        for callback in callbacks:
            if last is not None:
                callback.on_end(last)
        any_rank(False, rank_size)
    finally:
        for callback in callbacks:
            callback.close()


class _Interruption:
    """Ctrl-C or SIGTERM while training: the first lets the step finish and ends the loop, the second acts at once."""

    def __init__(self) -> None:
        self.asked_for = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
                        if in_main_thread and signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)}

    def __enter__(self) -> "_Interruption":
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
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


def _run_from_device_queue(step_cell: nn.Cell, stream: BatchStream, tell: Callable[[int, Outputs], None],
                           sink_steps: int) -> None:
    """Let MindSpore feed the device's queue; `sink_steps` is lowered to a divisor of the steps that are left."""
    class Tell(MindSporeCallback):
        def on_train_step_end(self, run_context: RunContext) -> None:
            arguments = run_context.original_args()
            tell(arguments.cur_step_num, arguments.net_outputs)

    if len(stream):
        sink_steps = math.gcd(len(stream), sink_steps)
        with user_errors_of(stream):
            Model(step_cell).train(len(stream) // sink_steps, create_dataset(stream), [Tell()],
                                   dataset_sink_mode=True, sink_size=sink_steps)
