"""Writing the folder of a model: its description, the files that it needs, and its card."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from src.files import write_text
from src.model_folder import DESCRIPTION, LABELS, ModelFolder
from src.tasks.base import Task

CARD = "README.md"
_MARK = "<!-- model card; written anew by each training into this folder -->"
_METRICS = {"f1", "accuracy", "mcc", "pearson", "spearman", "entity_f1", "exact", "exact_match", "masked_lm_accuracy",
            "entity_precision", "entity_recall", "clue_f1", "next_sentence_accuracy"}


class Training(NamedTuple):
    """What a card tells of how a model came about."""

    settings: Mapping[str, object]  # by what the user calls them
    data: str = ""  # trained on
    evaluated_on: str = ""
    scores: Mapping[str, float] = {}
    picture: str = ""  # a file of the folder
    weights: str = ""  # file of the folder whose scores these are


def write_model_folder(task: Task, path: Path) -> ModelFolder:
    """Write the description of a model and the files that it needs.

    Raises:
        UserError: a file cannot be read or written.
    """
    return task.model_folder(path).write(task.model_files())


def names_of_files(task: Task, folder: ModelFolder) -> dict[str, str]:
    """What the saved configuration says of the folder's files: their mere names, so that the folder may be moved."""
    return dict.fromkeys(task.file_synonyms, "") | dict(folder.files)


def write_card(task: type[Task], folder: ModelFolder, training: Training, home: Path | None = None) -> None:
    """Write the card of a model, unless a `README.md` of somebody else lies there.

    Args:
        task: of the model.
        folder: where it lies.
        training: how it came about.
        home: where the folder will lie in the end.

    Raises:
        UserError: it cannot be written.
    """
    home = home or folder.path
    path = home / CARD
    if path.is_file() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        print(f"{path} is no model card and stays as it is", file=sys.stderr, flush=True)
        return
    write_text(folder.path / CARD, "\n".join(_card(task, folder, home, training)))


def _card(task: type[Task], folder: ModelFolder, home: Path, training: Training) -> list[str]:
    name = home.resolve().name
    front = _front_matter(task, _architecture(folder), name, training)
    front = yaml.safe_dump(front, allow_unicode=True, sort_keys=False)
    return ["---", front.rstrip(), "---", _MARK, "", f"# {name}", "", *_what_it_is(task, folder), "",
            *_training(training), *_scores(training), *_usage(task, home), ""]


def _front_matter(task: type[Task], architecture: str, name: str, training: Training) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "mindspore", "pipeline_tag": task.pipeline_tag,
                             "tags": ["mindspore", architecture.lower()]}
    metrics = [{"type": key, "value": round(value, 6)} for key, value in training.scores.items() if key in _METRICS]
    if metrics:
        front["model-index"] = [{"name": name, "results": [{
            "task": {"type": task.pipeline_tag},
            "dataset": {"name": Path(training.evaluated_on).name or "custom", "type": "custom"},
            "metrics": metrics}]}]
    return front


def _architecture(folder: ModelFolder) -> str:
    return "NEZHA" if folder.network["use_relative_positions"] else "BERT"


def _what_it_is(task: type[Task], folder: ModelFolder) -> list[str]:
    sizes = folder.network
    positions = f"{sizes['relative_position_kind']} relative" if sizes["use_relative_positions"] else "absolute"
    lines = [f"A {_architecture(folder)} for {task.pipeline_tag.replace('-', ' ')}: {sizes['num_hidden_layers']} "
             f"layers of width {sizes['hidden_size']} with {sizes['num_attention_heads']} heads, a vocabulary of "
             f"{sizes['vocab_size']} tokens, {positions} positions, at most {sizes['seq_length']} tokens at a time."]
    if LABELS in folder.files:
        names = (folder.path / folder.files[LABELS]).read_text(encoding="utf-8").splitlines()
        lines += ["", f"Classes: {', '.join(names)}."]
    return lines


def _training(training: Training) -> list[str]:
    rows = {"data": training.data, **training.settings}
    lines = [f"| {key} | {value} |" for key, value in rows.items() if value not in ("", None)]
    return ["## Training", "", "| | |", "| --- | --- |", *lines, "",
            *([f"![Curve of the training]({training.picture})", ""] if training.picture else [])]


def _scores(training: Training) -> list[str]:
    if not training.scores:
        return ["## Scores", "", "Not evaluated yet.", ""]
    where = f" on {training.evaluated_on}" if training.evaluated_on else ""
    which = f" of {training.weights}" if training.weights else ""
    rows = [f"| {key} | {value:.6f} |" for key, value in training.scores.items()]
    return ["## Scores", "", f"Scores{which}{where}:", "", "| score | value |", "| --- | --- |", *rows, ""]


def _usage(task: type[Task], home: Path) -> list[str]:
    place = str(home)
    text = "\t".join(task.example.values())
    items = repr(text) if len(task.example) == 1 else repr(task.example)
    shell = shlex.quote(text) if "\t" not in text else "$'" + text.replace("'", "\\'").replace("\t", "\\t") + "'"
    return ["## Use", "", "From the repository that wrote it, in a shell:", "", "```bash",
            f"python predict.py --model {shlex.quote(place)} --text {shell}", "```", "", "In Python:", "", "```python",
            "from src import load_predictor", "", f"predict = load_predictor({place!r})", f"print(predict([{items}]))",
            "```", "", f"`{DESCRIPTION}` holds the configuration of the network and the checksums of the files; the "
            f"folder can be moved."]
