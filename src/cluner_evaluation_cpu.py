"""The name under which the original keeps CLUENER's scores for CPUs; see `src/tasks/ner/clue.py`."""

from src.tasks.ner.clue import SUBMISSION_NAME, benchmark_scores, to_label, write_submission

__all__ = ["SUBMISSION_NAME", "benchmark_scores", "to_label", "write_submission"]
