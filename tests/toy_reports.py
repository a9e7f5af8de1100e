"""Reports of steps that no network made."""

from dataclasses import replace

from src.training.callbacks import RunPlan, StepReport

PLAN = RunPlan(start_step=0, total_steps=100, samples_per_step=8, samples_per_epoch=40)
REPORT = StepReport(step=3, epochs=0.6, loss=10.856101, overflow=False, loss_scale=65536.0, learning_rate=1e-4,
                    samples_per_second=123.45, seconds_left=3661.0)


def at(step: int, **changes: object) -> StepReport:
    return replace(REPORT, step=step, epochs=PLAN.epochs_at(step), **changes)
