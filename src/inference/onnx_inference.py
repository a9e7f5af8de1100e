"""ONNX models in the place of networks, computed by ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path

from mindspore import Tensor

from src.checkpoint_files import TornCheckpointError, verify_file
from src.errors import UserError
from src.inference.description import check_task, parse_description, read_description
from src.inference.onnx_export import METADATA
from src.onnx_graph import onnx_package

_TYPES = {"tensor(int32)": "int32", "tensor(int64)": "int64"}  # of inputs, by ONNX Runtime's names


class OnnxNetwork:
    """A model that export.py wrote, called like the network that it was made from.

    Args:
        path: the model.
        task: the `description` that it must have been exported for.
        on_cpu: compute on the CPU even if ONNX Runtime has something faster.

    Raises:
        UserError: onnxruntime is absent, or the file is missing, damaged or of another task.
    """

    def __init__(self, path: Path, task: str, on_cpu: bool) -> None:
        runtime = onnx_package("onnxruntime", "an ONNX model")
        if not path.is_file():
            raise UserError(f"export_file_name: there is no ONNX model {path}; make it with export.py --file_format "
                            f"ONNX, or give another name")
        verify_model(path, _description_beside(path), "export_file_name")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors are raised; it need not print them as well
        providers = ["CPUExecutionProvider"] if on_cpu else runtime.get_available_providers()
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # damaged bytes lead to errors of any kind
            raise UserError(f"export_file_name: cannot read {path}: damaged, cut off, or not an ONNX model; export it "
                            f"anew") from error
        self.path = path
        self.about = parse_description(self.session.get_modelmeta().custom_metadata_map.get(METADATA, "{}"), path)
        self.inputs = {value.name: _TYPES.get(value.type, "int32") for value in self.session.get_inputs()}
        check_task(self.about, task, path, "export_file_name")

    def __call__(self, *columns: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map input columns [B,S] to the outputs of the network.

        Raises:
            UserError: the model cannot compute them: they are too long for it, or their ids too large.
        """
        values = {name: column.asnumpy().astype(kind, copy=False)
                  for (name, kind), column in zip(self.inputs.items(), columns, strict=True)}
        try:
            outputs = self.session.run(self.about["outputs"], values)
        except Exception as error:  # onnxruntime has its own class for each kind
            shape = list(columns[0].shape)
            raise UserError(f"{self.path}: cannot compute a batch of shape {shape}; it knows ids below "
                            f"{self.about['vocab_size']} and at most {self.about['max_length']} tokens "
                            f"({' '.join(str(error).split())[-200:]})") from error
        return Tensor(outputs[0]) if len(outputs) == 1 else tuple(Tensor(output) for output in outputs)


def _description_beside(path: Path) -> Mapping:
    """What export.py wrote beside an ONNX model; it is not needed, since the model knows all but its own checksum."""
    try:
        return read_description(path.with_name(f"{path.name}.json"), "what export.py writes")
    except UserError:
        return {}


def verify_model(path: Path, about: Mapping, option: str) -> None:
    """Compare an exported model, and the files that belong to it, with the checksums in its description.

    A model of version 0.1.0 has none. `ascend310_infer/src/checksum.cc` does the same.

    Raises:
        UserError: they differ.
    """
    try:
        verify_file(path, about.get("crc32"))
        for name, checksum in about.get("further_files", {}).items():
            verify_file(path.parent / name, checksum)
    except TornCheckpointError as error:
        raise UserError(f"{option}: {path} is damaged: {error}; export it anew") from error
