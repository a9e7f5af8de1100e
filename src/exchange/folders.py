"""Model folders of any framework: what is not ours is converted when it is named, once."""

from pathlib import Path

from src.checkpoint_files import crc32, json_crc32
from src.files import make_output_dir, temporary_directory
from src.model_folder import DESCRIPTION, ModelFolder

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"  # of transformers
_SUFFIXES = (".json", ".txt", ".safetensors", ".bin")


def open_model(path: str) -> ModelFolder | None:
    """The model folder that a path stands for; of a folder of transformers, or its weights, a converted copy.

    Raises:
        UserError: the folder is damaged, or cannot be converted.
    """
    folder = _folder_of_transformers(Path(path))
    if folder is None:
        return ModelFolder.find(path)
    from src.records.cache import CACHE, user_cache  # whoever names a folder of ours needs none

    copy = user_cache("models") / f"{folder.resolve().name}-{_checksum(folder)}"
    if not (copy / DESCRIPTION).is_file():
        make_output_dir(copy.parent, CACHE)
        _convert(folder, copy)
    return ModelFolder.read(copy)


def _folder_of_transformers(path: Path) -> Path | None:
    if path.name == _WEIGHTS:
        path = path.parent
    is_one = (path / _CONFIG).is_file() and not (path / DESCRIPTION).is_file()
    return path if is_one else None


def _convert(folder: Path, copy: Path) -> None:
    from src.exchange import huggingface, repository  # nor these
    from src.exchange.model import Report

    report = Report()
    model = huggingface.read(folder, None, report)
    with temporary_directory(copy.parent) as temporary:
        written = temporary / copy.name
        written.mkdir()
        repository.write(model, written, copy, "ckpt", None, report)
        try:
            written.rename(copy)
        except OSError:  # another process was faster
            ModelFolder.read(copy)
    print(f"converted {folder}, a model of transformers, into {copy}\n{report}".rstrip(), flush=True)


def _checksum(folder: Path) -> str:
    """A checksum of all that a conversion depends on."""
    return json_crc32({path.name: crc32(path) for path in sorted(folder.iterdir())
                       if path.suffix in _SUFFIXES and path.is_file()})
