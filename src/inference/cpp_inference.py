"""What surrounds the C++ program of ascend310_infer: its input files, and the scores of its results.

`preprocess.py` writes the columns of all records, a file for each batch, and a manifest. The program writes a file for
each output of each batch. `postprocess.py` runs the evaluation of the task with these in place of a network.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor

from src.dataset import EvaluationBatches
from src.errors import UserError
from src.files import failing_in_one_line, make_output_dir, temporary_directory
from src.inference.description import check_description, read_description
from src.inference.exported import check_classes
from src.inference.lite_config import fitting_batch_size
from src.json_files import check_kind, member, read_json_object
from src.model_utils.config import Config
from src.tasks.finetune_task import FinetuneTask
from src.tasks.registry import all_tasks, load_task_config, task_type

MANIFEST = "manifest.json"
_DIRECTORY = re.compile(r"\d\d_data")
_TYPES = {"FLOAT": np.dtype("<f4"), "INT32": np.dtype("<i4")}  # of `Head.outputs`


# ---------------------------------------------------------------- which task, which network

def task_names() -> dict[str, list[str]]:
    """What the documented commands call the tasks of the program: {name: the options that it stands for}."""
    return {name: [f"--description={task.description}", *options]
            for task in all_tasks() for name, options in task.cpp_names().items()}


def read_about(model_path: str) -> dict:
    """What export.py wrote about a MINDIR, in the JSON file beside it.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    path = Path(model_path).with_suffix(".json")
    about = read_description(path, "the description that export.py writes beside the model; export the model anew, or "
                                   "leave --model_path out and give --config_path")
    if not isinstance(about.get("config"), dict):
        raise UserError(f"{path}: found no configuration; expected the description of a MINDIR as export.py writes it; "
                        f"export the model anew")
    return about


def inference_config(task: str, about: Mapping | None, options: Sequence[str]) -> Config:
    """The configuration to evaluate with.

    Args:
        task: a key of `task_names()`, or empty to take it from the model or from `--config_path`.
        about: what `read_about` returned; its values are those of the model's training.
        options: the command line, which overrules them.

    Raises:
        UserError: it is of another task.
    """
    stored = []
    if not any(option.partition("=")[0] in ("--config_path", "--description") for option in options):
        if about:
            stored = as_options(about["config"])
        elif task:
            stored = task_names()[task]
    config = load_task_config("", [*stored, *options])
    name = task_type(config.description).cpp_name(config)
    if task and name != task:
        raise UserError(f"--task: found {task}, but the {'model' if about else 'configuration'} is of {name}; give the "
                        f"task and the model that belong together")
    if about and about["task"] != config.description:
        raise UserError(f"--model_path: the model is of {about['task']}, but the configuration is of "
                        f"{config.description}; give the configuration and the model of one task")
    return config


def as_options(values: Mapping, group: str = "") -> list[str]:
    """The values of a configuration as options of the command line."""
    options = []
    for key, value in values.items():
        options += as_options(value, f"{group}{key}.") if isinstance(value, Mapping) else [f"--{group}{key}={value}"]
    return options


# ---------------------------------------------------------------- before the program

def write_inputs(task: FinetuneTask, model_path: str, about: Mapping | None, directory: str | Path) -> int:
    """Write the records to evaluate on as `NN_data/{task}_bs{batch}_{index}.bin`, and the manifest beside them.

    NN counts the columns, a file holds one column of a batch. All batches have the same size: the model's, or
    `eval_batch_size` when the model takes any, or the next of several that it takes. Copies of records fill the last
    one up.

    Args:
        task: whose records.
        model_path: what they are for, as the user calls it.
        about: what `read_about` returned for it, or None.
        directory: what an earlier call wrote there is replaced.

    Returns:
        Number of batches.

    Raises:
        UserError: records or model do not fit, or the directory cannot be written.
    """
    directory = Path(directory)
    _check_directory(directory)
    batch_size = None
    if about:
        batch_size, length = about["input_shape"]
        if length != task.bert_config.seq_length:
            raise UserError(f"--model_path: {model_path} takes sequences of {length} tokens, but seq_length is "
                            f"{task.bert_config.seq_length}; give the configuration that it was exported with")
        check_classes(task, about, Path(model_path))
    records = task.eval_records()
    if not batch_size:
        batch_size = min(task.config.eval_batch_size, records.num_rows)
        if about and "batch_sizes" in about:
            batch_size = fitting_batch_size(batch_size, about["batch_sizes"])
    batches = EvaluationBatches(records, batch_size, limits=task.limits)
    manifest = {"config": task.config.to_dict(), "model_path": model_path, "model": about, "batch_size": batch_size,
                "num_rows": records.num_rows, "columns": list(records.columns),
                "batches": [f"{task.cpp_name(task.config)}_bs{batch_size}_{index}" for index in range(len(batches))]}
    make_output_dir(directory.parent, "--result_path")
    with failing_in_one_line(directory), temporary_directory(directory.parent) as temporary:
        _write_batches(batches, manifest, temporary / "new")
        if directory.exists():
            directory.rename(temporary / "old")
        (temporary / "new").rename(directory)
    return len(batches)


def _check_directory(directory: Path) -> None:
    """Refuse to replace what `write_inputs` did not write."""
    if directory.is_dir():
        foreign = [path.name for path in directory.iterdir()
                   if path.name != MANIFEST and not _DIRECTORY.fullmatch(path.name)]
        if not foreign:
            return
        raise UserError(f"--result_path: {directory} holds {foreign[0]}, which preprocess.py did not write; give a new "
                        f"directory, since its content is replaced")
    if directory.exists():
        raise UserError(f"--result_path: {directory} is a file; give a directory")


def _write_batches(batches: EvaluationBatches, manifest: Mapping, directory: Path) -> None:
    folders = [directory / f"{number:02d}_data" for number in range(len(manifest["columns"]))]
    for folder in folders:
        folder.mkdir(parents=True)
    for name, batch in zip(manifest["batches"], batches, strict=True):
        for folder, values in zip(folders, batch.columns, strict=True):
            (folder / f"{name}.bin").write_bytes(np.ascontiguousarray(values).tobytes())
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- after the program

def read_manifest(directory: str | Path) -> dict:
    """The manifest that `write_inputs` wrote.

    Raises:
        UserError: there is none, or something is missing in it.
    """
    path = Path(directory) / MANIFEST
    manifest = read_json_object(path, "the manifest that preprocess.py writes; run preprocess.py first, or give its "
                                      "--result_path as --preprocess_path")
    where, hint = f"{path}: ", "run preprocess.py again"
    member(manifest, "config", dict, where, hint=hint)
    member(manifest, "model_path", str, where, hint=hint)
    for number, name in enumerate(member(manifest, "batches", list, where, hint=hint)):
        check_kind(name, str, f"{where}batches[{number}]", hint)
    size, rows = (member(manifest, key, int, where, hint=hint) for key in ("batch_size", "num_rows"))
    if size < 1 or len(manifest["batches"]) != -(-rows // size):
        raise UserError(f"{where}{len(manifest['batches'])} batches of {size} are not {rows} records; {hint}")
    if manifest.get("model") is not None:
        manifest["model"] = check_description(member(manifest, "model", dict, where, hint=hint), f"{where}model")
    return {"model": None} | manifest


def check_inputs(directory: str | Path, task: str, model_path: str, about: Mapping | None) -> None:
    """Make sure that the input files of an earlier call are of a task and a model.

    Args:
        directory: the files.
        task: a key of `task_names()`, or empty for any.
        model_path: the model, as the user calls it.
        about: what `read_about` returned for it, or None.

    Raises:
        UserError: they are of others, or there are none.
    """
    manifest = read_manifest(directory)
    config = load_task_config("", as_options(manifest["config"]))
    name = task_type(config.description).cpp_name(config)
    again = f"{Path(directory)} holds the input files"
    if task and name != task:
        raise UserError(f"--task: found {task}, but {again} of {name}; write them anew")
    if about and manifest["model"] != about:
        raise UserError(f"--model_path: {model_path} is not the model that {again} of "
                        f"({manifest['model_path']}); write them anew")


class StoredNetwork:
    """The outputs that the program wrote, batch by batch, in the place of a network.

    Args:
        task: whose outputs.
        manifest: of the inputs.
        inputs: the directory of the inputs.
        results: the directory of the outputs.
    """

    def __init__(self, task: FinetuneTask, manifest: Mapping, inputs: str | Path, results: str | Path) -> None:
        sizes: dict[str | int, int] = {"batch": manifest["batch_size"], "sequence": task.bert_config.seq_length}
        self._outputs = [(_TYPES[kind], [sizes[axis] if axis in sizes else int(axis) for axis in axes])
                         for kind, axes in task.head().outputs.values()]
        self._batches: Iterator[str] = iter(manifest["batches"])
        self._inputs, self._results = Path(inputs), Path(results)

    def __call__(self, *columns: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the outputs of the next batch.

        Raises:
            UserError: they are absent or of the wrong size, or of other inputs.
        """
        name = next(self._batches)
        source = self._inputs / "00_data" / f"{name}.bin"
        if not source.is_file() or source.read_bytes() != columns[0].asnumpy().tobytes():
            raise UserError(f"{source}: is not what the records give; run preprocess.py and the C++ program again, or "
                            f"give the options that preprocess.py was given")
        outputs = [Tensor(self._read(self._results / f"{name}_{number}.bin", kind, shape))
                   for number, (kind, shape) in enumerate(self._outputs)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _read(self, path: Path, kind: np.dtype, shape: list[int]) -> np.ndarray:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot read this result: {error.strerror}; run the C++ program on the output of "
                            f"preprocess.py first") from error
        expected = int(np.prod(shape)) * kind.itemsize
        if len(content) != expected:
            raise UserError(f"{path}: has {len(content)} bytes, expected {expected} for {kind.name} {shape}; is the "
                            f"model of this task and these classes?")
        return np.frombuffer(content, kind).reshape(shape).copy()


def stored_evaluation(task: FinetuneTask, manifest: Mapping, inputs: str | Path, results: str | Path
                      ) -> tuple[StoredNetwork, EvaluationBatches]:
    """What to evaluate a task with: the stored outputs as a network, and the batches that they are of.

    Raises:
        UserError: the classes are not the model's, or the records are not those of the manifest.
    """
    if manifest["model"]:
        check_classes(task, manifest["model"], Path(manifest["model_path"]))
    records = task.eval_records()
    if records.num_rows != manifest["num_rows"]:
        raise UserError(f"{Path(inputs) / MANIFEST}: is of {manifest['num_rows']} records, but there are "
                        f"{records.num_rows}; run preprocess.py and the C++ program again")
    batches = EvaluationBatches(records, manifest["batch_size"], limits=task.limits)
    return StoredNetwork(task, manifest, inputs, results), batches
