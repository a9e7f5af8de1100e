"""Runs on ModelArts, Huawei's cloud: data come from a bucket, results go to one.

`moxing`, which knows the buckets, is installed on ModelArts and cannot be had elsewhere; it is imported when a run asks
for it. Paths in the configuration of such a run are relative to what is copied; `local_values` tells to what.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.files import make_output_dir
from src.model_utils.config import REPOSITORY, Config
from src.model_utils.local_adapter import get_device_id, get_device_num, get_rank_id
from src.model_utils.once_per_host import once_per_host
from src.model_utils.zip_packages import unpack_packages

DATA_OPTIONS = ("data_dir", "eval_data_dir", "schema_dir", "train_data_file_path", "eval_data_file_path",
                "eval_json_path", "schema_file_path", "vocab_file_path", "label_file_path", "label2id_file_path")
CHECKPOINT_OPTIONS = ("load_pretrain_checkpoint_path", "load_finetune_checkpoint_path", "load_checkpoint_path",
                      "eval_ckpt", "export_ckpt_file")
CHECKPOINT_FOLDERS = ("save_checkpoint_path", "save_finetune_checkpoint_path")
RESULT_FILES = ("metrics_file", "plot_file", "tensorboard_dir", "predictions_file", "export_file_name")
_NO_PATH = ("", "none")  # of a checkpoint: none is wanted


@contextmanager
def cloud_storage(config: Config) -> Iterator[Config]:
    """Give the configuration that a run shall use; without `enable_modelarts` that is `config` itself.

    On ModelArts data and checkpoints are copied to this host first, and at the end the results to `train_url`, also
    when the run fails or is interrupted. The run's own error remains the one that is raised.

    Raises:
        UserError: an option is missing, moxing is not installed, or something cannot be copied.
    """
    scheduler = os.environ.get("MS_ROLE") == "MS_SCHED"  # msrun's, in which the processes meet and nothing is computed
    if not config.enable_modelarts or scheduler:
        yield config
        return
    _check_options(config)
    copy = _Copier(_moxing())
    rank = get_rank_id()
    with _fetched(config, copy):
        local = config.replaced(local_values(config, rank))
        make_output_dir(result_folder(config, rank), "output_path")
        try:
            yield local
        except BaseException:
            try:
                _upload(config, copy, rank)
            except UserError as failure:
                print(f"error: {failure}", file=sys.stderr, flush=True)
            raise
        _upload(config, copy, rank)


# ---------------------------------------------------------------- paths

def result_folder(config: Config, rank: int) -> Path:
    """Where a process writes its results: `output_path` belongs to rank 0, and the others have one of their own.

    A distributed run writes on rank 0 alone. But a script that does not know of the others writes in every process.
    """
    path = Path(config.output_path)
    return path.with_name(f"{path.name}_rank_{rank}") if rank else path


def local_values(config: Config, rank: int) -> dict[str, Any]:
    """The values of the configuration that are different for a run on this host: paths, and the device.

    Raises:
        UserError: a path is relative to data that are not copied, or results would go where they are not copied from.
    """
    values: dict[str, Any] = {option: _in_data_folder(config, option) for option in DATA_OPTIONS if config.get(option)}
    if config.get("data_dir") == "" and config.data_url:
        values["data_dir"] = config.data_path
    values |= {option: _find_checkpoint(config, option) for option in CHECKPOINT_OPTIONS
               if config.get(option, "") not in _NO_PATH}
    # All ranks look for checkpoints to resume from in the folder that rank 0 saves them in.
    values |= {option: _in_result_folder(config, option, Path(config.output_path)) for option in CHECKPOINT_FOLDERS
               if option in config}
    results = result_folder(config, rank)
    values |= {option: _in_result_folder(config, option, results) for option in RESULT_FILES if config.get(option)}
    if config.get("do_train") is False and not config.predictions_file:
        values["predictions_file"] = str(results)
    if "distribute" in config and get_device_num() > 1:
        values["distribute"] = True
    # The values may be written beside the checkpoints, for use elsewhere.
    return values | {"device_id": get_device_id(config.device_id), "enable_modelarts": False, "data_url": "",
                     "checkpoint_url": "", "train_url": ""}


def _in_data_folder(config: Config, option: str) -> str:
    if not config.data_url and not Path(config[option]).is_absolute():
        raise UserError(f"data_url is not set, and {option} is relative to the data that are copied from it; give the "
                        f"job a data storage location, or set data_url to a folder of a bucket")
    return str(Path(config.data_path) / config[option])  # an absolute path stays as it is


def _find_checkpoint(config: Config, option: str) -> str:
    """Look for a checkpoint in the folders that it may be relative to; whether the run needs it is not known here."""
    folders = [REPOSITORY]
    if config.data_url:
        folders.insert(0, Path(config.data_path))
    if config.checkpoint_url:
        folders.insert(0, Path(config.load_path))
    if option == "export_ckpt_file":
        folders.insert(0, REPOSITORY)
    for folder in folders:
        if (folder / config[option]).exists():
            return str(folder / config[option])
    print(f"{option}: there is no {config[option]} in {', '.join(map(str, dict.fromkeys(folders)))}", file=sys.stderr,
          flush=True)
    return str(folders[0] / config[option])


def _in_result_folder(config: Config, option: str, folder: Path) -> str:
    """A path of results, which must not lead out of the folder that is copied to train_url."""
    path = folder / config[option]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{option}: {config[option]} is not in output_path {config.output_path}, which alone is copied "
                        f"to train_url; give a path relative to it")
    return str(path)


# ---------------------------------------------------------------- copies

class _Copier:
    """Copies folders, and says so."""

    def __init__(self, moxing: Any) -> None:  # noqa: ANN401
        self.moxing = moxing

    def __call__(self, option: str, source: str | Path, target: str | Path) -> None:
        try:
            self.moxing.file.copy_parallel(str(source), str(target))
        except Exception as error:  # moxing passes on whatever its network library raises
            raise UserError(f"{option}: cannot copy {source} to {target}: {_first_line(error)}") from error
        print(f"copied {source} to {target}", flush=True)

    def exists(self, option: str, url: str) -> bool:
        try:
            return self.moxing.file.exists(url)
        except Exception as error:
            raise UserError(f"{option}: cannot look for {url}: {_first_line(error)}") from error


def _moxing() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("moxing")
    except ImportError as error:
        raise UserError(f"enable_modelarts true: moxing cannot be imported ({error}), and it is installed on ModelArts "
                        f"only; elsewhere use --enable_modelarts false and local paths") from error


def _check_options(config: Config) -> None:
    for option in ("data_path", "load_path", "output_path"):
        if not Path(config[option]).name:
            raise UserError(f"{option}: found {config[option]!r}, expected a local folder such as /cache/{option}")
    if not config.train_url:
        raise UserError("train_url is not set, and results would be lost; give the job an output file path, or set "
                        "train_url to a folder of a bucket")


@contextmanager
def _fetched(config: Config, copy: _Copier) -> Iterator[None]:
    """Copy data and checkpoints to this host, in one of its processes."""
    copies = [(option, config[option], config[folder], folder) for option, folder in
              (("data_url", "data_path"), ("checkpoint_url", "load_path")) if config[option]]
    if config.get("resume"):
        copies.append(("train_url", config.train_url, config.output_path, "output_path"))
    purpose = "; ".join(f"copy {source} to {target}" for _, source, target, _ in copies)
    state = Path(config.data_path)
    with once_per_host(state.with_name(f"{state.name}_copied"), purpose, lambda: _fetch(copies, copy)):
        yield


def _fetch(copies: list[tuple[str, str, str, str]], copy: _Copier) -> None:
    for option, source, target, folder_option in copies:
        folder = make_output_dir(target, folder_option)
        if option == "train_url" and not copy.exists(option, source):
            continue  # the first run has nothing to resume from
        copy(option, source, folder)
        if option == "data_url":
            for package in unpack_packages(folder):
                print(f"unpacked {package}", flush=True)


def _upload(config: Config, copy: _Copier, rank: int) -> None:
    """Copy this process's results to train_url, those of further ranks to a folder in it."""
    results = result_folder(config, rank)
    if any(path.is_file() for path in results.rglob("*")):
        copy("train_url", results, f"{config.train_url.rstrip('/')}/rank_{rank}" if rank else config.train_url)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]
