"""The tasks. To add one, write its folder and add its line here."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from src.errors import UserError, shown
from src.model_utils.config import (
    Config,
    WeightsOption,
    asks_for_help,
    describe_command_line,
    load_config,
    split_command_line,
)
from src.tasks.base import Task
from src.tasks.finetune_task import FinetuneTask

# The class of each task by the `description` of its configuration; imported when it is asked for, so that a command
# loads no task but its own.
TASKS = {
    "run_classifier": "src.tasks.classifier.task:ClassifierTask",
    "run_ner": "src.tasks.ner.task:NerTask",
    "run_squad": "src.tasks.squad.task:SquadTask",
    "run_pretrain": "src.tasks.pretraining.task:PretrainTask",
}
PRETRAINING = "run_pretrain"
# Those that may name the model folder which says of what task a command is.
WEIGHTS_OPTIONS = ("export_ckpt_file", "load_finetune_checkpoint_path", "load_checkpoint_path", "eval_ckpt",
                   "export_file_name")


def task_type(description: str) -> type[Task]:
    """The task of a configuration's `description`, a key of `TASKS`."""
    module, _, name = TASKS[description].partition(":")
    return getattr(importlib.import_module(module), name)


def all_tasks() -> list[type[Task]]:
    """Every task."""
    return [task_type(description) for description in TASKS]


def finetune_task_type(config: Config) -> type[FinetuneTask]:
    """The fine-tuning task of a configuration.

    Raises:
        UserError: it is of no such task.
    """
    found = task_type(config.description) if config.description in TASKS else None
    if found is None or not issubclass(found, FinetuneTask):
        raise UserError(f"description: {config.description} is no fine-tuning task; give the configuration of one")
    return found


def load_task_config(description: str, argv: Sequence[str] | None = None,
                     weights: WeightsOption | None = None) -> Config:
    """Read the configuration of a task; the key `description` says of which one.

    It stands in the file that `--config_path` names, is given as an option, or is that of the model folder that an
    option names.

    Args:
        description: what the script does, shown by `--help`.
        argv: the command line without the program's name; None means that of the process.
        weights: which model folder counts; None for none.

    Raises:
        UserError: it is neither, or as for `load_config`.
        SystemExit: after `--help`.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    wants_help = asks_for_help(argv)
    options = [word for word in argv if not asks_for_help([word])]
    task, source = describe_command_line(options)
    if task is None and not source and weights:
        task, source = _task_of_model(options, weights)
    if wants_help and task is None:
        print(f"{description}\n\nusage: {Path(sys.argv[0]).name} --config_path FILE [--key value ...]\n\n"
              f"The options are the keys of the task's configuration; --config_path FILE --help lists them, such as "
              f"--config_path {task_type(next(iter(TASKS))).config_file} --help.")
        raise SystemExit(0)
    if not isinstance(task, str) or task not in TASKS:
        if source:
            raise UserError(f"{source}: description: found {shown(task)}, expected one of {', '.join(TASKS)}; give "
                            f"the configuration of a task, or the option --description")
        raise UserError(f"--config_path is not set; give the configuration of the task, such as "
                        f"--config_path {task_type(next(iter(TASKS))).config_file}, or the folder of a model")
    return load_config(description, task_type(task).config_file, argv, weights)


def _task_of_model(argv: Sequence[str], weights: WeightsOption) -> tuple[str | None, str]:
    """The task of the model folder that an option names, and the file that says so; None where there is none."""
    given = split_command_line(argv)
    named = (weights.open_model(given[option]) for option in WEIGHTS_OPTIONS if given.get(option))
    model = weights.model or next((model for model in named if model), None)
    return (model.task, str(model.source)) if model else (None, "")
