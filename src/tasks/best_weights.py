"""Evaluation while fine-tuning: the best weights are kept, and a run that no longer improves ends early."""

from typing import Any

from tqdm import tqdm

from src.checkpoint_files import read_about
from src.files import check_output
from src.initialization import undrawn_weights
from src.model_utils.communication import from_first_rank
from src.tasks.finetune_task import Evaluation, FinetuneTask, predictions_path
from src.tasks.report import (
    curve_parts,
    evaluation_parts,
    predictions_text,
    report_path,
    text_completion,
    write_report,
)
from src.training.callbacks import StepReport
from src.training.run import Run, TrainingEvaluation
from src.weights import save_weights


class BestWeights(TrainingEvaluation):
    """Evaluate the weights of the moment on every record; keep the best in `{name}_best.ckpt`.

    What is known of them lies in `{name}_best.about.json`, and in the checkpoints, so that a resumed run goes on where
    the other stopped. Every rank evaluates a share of the records, knows all scores and comes to the same decisions.

    Args:
        task: says what to evaluate and which score decides.
        run: of which the weights are.
        every: steps between evaluations; the last step is evaluated in any case.
    """

    def __init__(self, task: FinetuneTask, run: Run, every: int) -> None:
        with undrawn_weights():
            network = task.inference_network().set_train(False)
        super().__init__(run, network, every)
        self.task = task
        self.score = task.best_metric
        self.best_path = run.output_dir / f"{task.name}_best.ckpt"
        if run.writes:
            self.predictions_path = predictions_path(task, run.output_dir)
            self.report_path = report_path(self.predictions_path)
            check_output(self.best_path, "save_finetune_checkpoint_path")
        self.batches = task.evaluation_batches(run.device.rank, run.device.rank_size)
        self._complete = text_completion(task, self.batches.records)
        self.patience = task.config.early_stopping_patience
        self.best: dict | None = run.evaluated.get("best")  # step, results and lines of the best evaluation
        self.without_gain: int = run.evaluated.get("without_gain", 0)  # evaluations since
        if run.plan.start_step and "best" not in run.evaluated:
            self._recall(run.plan.start_step)
        self.best_parts: list[str] = []  # of the report; empty if the best weights are those of an earlier process
        self._consider_stopping()

    def state(self) -> dict[str, Any]:
        """The last evaluation, the best one, and how many brought no gain since."""
        return super().state() | {"best": self.best, "without_gain": self.without_gain}

    def _recall(self, start_step: int) -> None:
        """Take up the best evaluation of a run whose checkpoints say nothing of it, as those of 0.1.0.

        One of a later step than the run is continued from is left aside: that step comes again.
        """
        device = self.run.device
        about = from_first_rank(read_about(self.best_path), device.rank, device.rank_size)
        if about and about["step"] <= start_step:
            self.best = about
            self.without_gain = start_step // self.every - about["step"] // self.every

    def act(self, report: StepReport) -> None:
        """Evaluate after the reported step."""
        self.take_weights()
        evaluation = self.task.evaluate(self.network, self.batches)
        self.show(report, evaluation.lines, evaluation.results)
        recorders = [recorder for recorder in self.run.recorders if recorder.takes_text]
        if recorders and evaluation.items:
            text = predictions_text(evaluation.items(), self._complete)
            for recorder in recorders:
                recorder.write_text(report.step, text)
        if self.best is None or self._quality(evaluation.results) > self._quality(self.best["results"]):
            self.without_gain = 0
            self._keep(report, evaluation)
        else:
            self.without_gain += 1
        if self.best and self.best_parts:  # also of an earlier evaluation: the curve goes on
            scores, *others = self.best_parts
            write_report(self.report_path, f"{self.task.description}: best weights, after step {self.best['step']}",
                         [scores, *curve_parts(self.run.metrics_path, self.score), *others])
        self._consider_stopping()

    def _quality(self, results: dict[str, float]) -> tuple[float, float]:
        """What is compared: the score, and among equals the loss."""
        return results[self.score], -results.get("loss", 0.0)

    def _keep(self, report: StepReport, evaluation: Evaluation) -> None:
        self.best = {"step": report.step, "epoch": round(report.epochs, 3), "metric": self.score,
                     "results": evaluation.results, "lines": evaluation.lines}
        if self.run.writes:
            items = list(evaluation.items()) if evaluation.items else []
            evaluation.write(self.predictions_path, items)
            self.best_parts = evaluation_parts(evaluation, items, self._complete)
            save_weights(self.network, self.best_path, **self.best)

    def _consider_stopping(self) -> None:
        if self.patience and self.without_gain >= self.patience:
            self.wants_to_stop = True
            tqdm.write(f"no better {self.score} in {self.without_gain} evaluations: stopped early")

    def finish(self) -> dict[str, float]:
        """Say what the last weights gave and what the best did; return the scores of the best."""
        if self.best is None:
            return {}
        if self.last:
            print(f"last {self.score}, after step {self.last['step']}: {self.last['results'][self.score]:.6f}")
        lines = "\n".join(self.best["lines"])
        print(f"best {self.score}, after step {self.best['step']}, in {self.best_path}:\n{lines}", flush=True)
        return self.best["results"]
