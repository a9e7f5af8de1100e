"""Which fine-tuning task a configuration describes."""

from src.errors import UserError
from src.tasks.base import FinetuneTask


def task_type(description: str) -> type[FinetuneTask]:
    """The task of a configuration's `description`.

    Raises:
        UserError: it is not one of fine-tuning.
    """
    # Imported here, so that a task does not load the others.
    if description == "run_classifier":
        from src.tasks.classifier.task import ClassifierTask

        return ClassifierTask
    if description == "run_ner":
        from src.tasks.ner.task import NerTask

        return NerTask
    if description == "run_squad":
        from src.tasks.squad.task import SquadTask

        return SquadTask
    raise UserError(f"description: {description} is no fine-tuning task; give the configuration of one")
