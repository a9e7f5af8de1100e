"""Evaluation while fine-tuning: the best weights are kept, and a run that no longer improves ends early."""

import sys
from pathlib import Path

from mindspore import Tensor
from tqdm import tqdm

from src.callbacks import Periodic, RunPlan, StepReport
from src.checkpoint import read_about, save_weights
from src.communication import from_first_rank
from src.finetune_task import Evaluation, FinetuneTask
from src.initialization import undrawn_weights
from src.metrics_file import MetricsFile
from src.model_utils.device_adapter import DeviceInfo
from src.train_step import TrainStep


class TrainingEvaluation(Periodic):
    """Evaluate the weights of the moment on every record; keep the best in `{name}_best.ckpt`.

    What is known of the best lies in `{name}_best.about.json`, so that a resumed run goes on where the other stopped.

    Args:
        task: says what to evaluate and which score decides.
        device: every rank evaluates a share of the records, knows all scores and comes to the same decisions.
        step_cell: holds the weights.
        output_dir: where the best ones go, with their predictions.
        every: steps between evaluations; the last step is evaluated in any case.
        plan: of the run.
        metrics: takes the scores; None on ranks that do not report.
    """

    def __init__(self, task: FinetuneTask, device: DeviceInfo, step_cell: TrainStep, output_dir: Path, every: int,
                 plan: RunPlan, metrics: MetricsFile | None) -> None:
        super().__init__(self._evaluate, every, plan.start_step)
        self.task = task
        self.trained = step_cell.network
        self.metrics = metrics
        self.best_path = output_dir / f"{task.name}_best.ckpt"
        self.predictions_path = Path(task.config.predictions_file or output_dir / task.predictions_name)
        self.batches = task.evaluation_batches(device.rank, device.rank_size)
        with undrawn_weights():
            self.network = task.evaluation_network().set_train(False)
        self.patience = task.config.early_stopping_patience
        self.best: dict | None = None  # step, results and lines of the best evaluation
        self.without_gain = 0  # evaluations since
        if plan.start_step:
            self._recall(plan.start_step, device)

    def _recall(self, start_step: int, device: DeviceInfo) -> None:
        """Take up the best evaluation of the run that is continued.

        One of a later step than the run is continued from is left aside: that step comes again.
        """
        about = from_first_rank(read_about(self.best_path), device.rank, device.rank_size)
        if about and about["step"] <= start_step:
            self.best = about
            self.without_gain = start_step // self.every - about["step"] // self.every
        self._consider_stopping()

    def _evaluate(self, report: StepReport) -> None:
        weights = {parameter.name: parameter for parameter in self.trained.get_parameters()}
        for parameter in self.network.get_parameters():
            parameter.set_data(Tensor(weights[parameter.name].asnumpy()))
        evaluation = self.task.evaluate(self.network, self.batches)
        if self.metrics:
            tqdm.write("\n".join(evaluation.lines))  # clears a progress bar first
            sys.stdout.flush()
            self.metrics.write(report.step, **evaluation.results)
        if self.best is None or self._quality(evaluation.results) > self._quality(self.best["results"]):
            self.without_gain = 0
            self._keep(report, evaluation)
        else:
            self.without_gain += 1
        self._consider_stopping()

    def _quality(self, results: dict[str, float]) -> tuple[float, float]:
        """What is compared: the score, and among equals the loss."""
        return results[self.task.best_metric], -results.get("loss", 0.0)

    def _keep(self, report: StepReport, evaluation: Evaluation) -> None:
        self.best = {"step": report.step, "epoch": round(report.epochs, 3), "metric": self.task.best_metric,
                     "results": evaluation.results, "lines": evaluation.lines}
        if self.metrics:
            if evaluation.write_predictions:
                evaluation.write_predictions(self.predictions_path)
            save_weights(self.network, self.best_path, **self.best)

    def _consider_stopping(self) -> None:
        if self.patience and self.without_gain >= self.patience:
            self.wants_to_stop = True
            if self.metrics:
                tqdm.write(f"no better {self.task.best_metric} in {self.without_gain} evaluations: stopped early")

    def finish(self) -> dict[str, float]:
        """Say what the best was; return its scores."""
        if self.best is None:
            return {}
        if self.metrics:
            lines = "\n".join(self.best["lines"])
            print(f"best {self.task.best_metric}, after step {self.best['step']}, in {self.best_path}:\n{lines}",
                  flush=True)
        return self.best["results"]
