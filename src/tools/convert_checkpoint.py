"""Convert checkpoints between this repository, Hugging Face transformers and Google's TensorFlow BERT.

    python src/tools/convert_checkpoint.py --input_path bert-base-chinese --output_dir output/bert
    python src/tools/convert_checkpoint.py --input_path output/tnews/classifier_best.ckpt --output_format huggingface \\
        --output_dir output/tnews_hf --config_path output/tnews/classifier_config.yaml

What was converted, what was left out and why is printed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.errors import UserError, first_line, run_script  # noqa: E402
from src.exchange import huggingface, repository, tensorflow_checkpoint  # noqa: E402
from src.exchange.model import Model, Report  # noqa: E402
from src.exchange.names import heads  # noqa: E402
from src.files import atomic_files, make_output_dir  # noqa: E402

FORMATS = ("mindspore", "huggingface", "tensorflow")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments, options = parse_arguments(argv)
    source, output_dir = Path(arguments.input_path), Path(arguments.output_dir)
    report = Report()
    model = read(source, arguments.task, options, arguments.output_format, report)
    if arguments.vocab_file_path:
        model.vocab_file = Path(arguments.vocab_file_path)
    if model.vocab_file and not model.vocab_file.is_file():
        raise UserError(f"vocab_file_path: there is no file {model.vocab_file}")
    if output_dir.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise UserError(f"--output_dir: {output_dir} holds the input; give another directory")
    make_output_dir(output_dir, "--output_dir")
    with atomic_files(output_dir) as directory:
        count = write(model, directory, arguments, output_dir, report)
        written = sorted(path.name for path in directory.iterdir())
    print(f"wrote {count} parameters of {source} to {output_dir}: {', '.join(written)}\n  {model}\n{report}".rstrip())


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into what this script reads itself and the keys of the configuration."""
    parser = argparse.ArgumentParser(
        description=first_line(__doc__), allow_abbrev=False,
        epilog="For a checkpoint of this repository give also the options of its training that say how large the "
               "network is: --config_path FILE, or --base_net_cfg.hidden_size 128 and so on.")
    add = parser.add_argument
    add("--input_path", required=True, metavar="PATH",
        help="directory of transformers; prefix or directory of a TensorFlow checkpoint; .ckpt, .safetensors or "
             "directory of checkpoints of this repository")
    add("--output_dir", required=True, metavar="DIR", help="directory for the files")
    add("--output_format", choices=FORMATS, default="mindspore", help="whose files to write (default %(default)s)")
    add("--task", choices=tuple(heads()), help="which head the network has (default: seen from the files)")
    add("--vocab_file_path", metavar="FILE", help="vocabulary to put beside the weights (default: that of the input)")
    add("--seq_length", type=int, metavar="N",
        help="tokens per sequence in the YAML file written for this repository (default 128, 384 for squad)")
    add("--file_format", choices=("ckpt", "safetensors"), default="ckpt",
        help="format of the weights written for this repository (default %(default)s)")
    return parser.parse_known_args(argv)


def read(source: Path, task: str | None, options: Sequence[str], output_format: str, report: Report) -> Model:
    """Read a model of any framework; the files say of which.

    Raises:
        UserError: there is no model, or it cannot be read.
    """
    if not source.exists() and not tensorflow_checkpoint.find_prefix(source):
        raise UserError(f"--input_path: there is no {source}")
    if source.is_file() and source.name == huggingface.WEIGHTS and source.with_name(huggingface.CONFIG).is_file():
        source = source.parent
    if source.is_dir() and (source / huggingface.CONFIG).is_file():
        model = huggingface.read(source, task, report)
    elif prefix := tensorflow_checkpoint.find_prefix(source):
        model = tensorflow_checkpoint.read(prefix, task, report)
    elif source.suffix == ".bin":
        raise UserError(f"--input_path: {source} is a file of PyTorch; give the directory that holds it and its "
                        f"config.json")
    elif output_format == "mindspore":
        raise UserError(f"--output_format: {source} is no model of transformers or TensorFlow; to convert a checkpoint "
                        f"of this repository, give --output_format huggingface or tensorflow")
    else:
        return repository.read(source, task, options, report)
    if options:
        raise UserError(f"{options[0]}: no such option for this input, whose configuration lies beside it; see --help")
    return model


def write(model: Model, directory: Path, arguments: argparse.Namespace, home: Path, report: Report) -> int:
    """Write a model in the chosen format; return the number of its parameters."""
    if arguments.output_format == "huggingface":
        return huggingface.write(model, directory, report)
    if arguments.output_format == "tensorflow":
        return tensorflow_checkpoint.write(model, directory, report)
    return repository.write(model, directory, home.resolve(), arguments.file_format, arguments.seq_length, report)


if __name__ == "__main__":
    run_script(main)
