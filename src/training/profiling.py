"""A profile of some steps of a training, by MindSpore's profiler."""

from pathlib import Path
from typing import Any

from src.errors import UserError
from src.training.callbacks import Callback, Place, StepReport

WAITED, WARMED, RECORDED = 1, 1, 10  # steps: the first one compiles the graph


class Profiling(Callback):
    """Record steps 3 to 12 of a run into a folder, as MindSpore writes them (`enable_profiling`)."""

    place = Place.GUARD

    def __init__(self, folder: Path, device_target: str) -> None:
        super().__init__()
        self.folder = folder
        self.device_target = device_target
        self.profile: Any = None

    def on_begin(self) -> None:
        """Start."""
        from mindspore.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler

        devices = {"Ascend": (ProfilerActivity.NPU,), "GPU": (ProfilerActivity.GPU,)}
        try:
            self.profile = profile(
                activities=[ProfilerActivity.CPU, *devices.get(self.device_target, ())],
                schedule=schedule(wait=WAITED, warmup=WARMED, active=RECORDED, repeat=1),
                on_trace_ready=tensorboard_trace_handler(dir_name=str(self.folder)))
            self.profile.start()
        except Exception as error:  # the profiler raises errors of many kinds
            raise UserError(f"enable_profiling: MindSpore's profiler cannot write to {self.folder}: "
                            f"{str(error).strip().splitlines()[0]}; set enable_profiling to false") from error

    def on_step(self, report: StepReport) -> None:
        """Count the step."""
        self.profile.step()

    def close(self) -> None:
        """Stop, also when the run was too short."""
        if self.profile is not None:
            self.profile.stop()
            self.profile = None
