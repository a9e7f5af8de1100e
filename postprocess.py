"""Score what the C++ program in ascend310_infer computed, as the evaluation of the task does.

    python postprocess.py --preprocess_path preprocess_Result --result_path result_Files
"""

import argparse

from src.errors import first_line, run_script
from src.inference.cpp_inference import as_options, read_manifest, stored_evaluation
from src.tasks.evaluation import report_evaluation, task_to_evaluate
from src.tasks.registry import load_task_config


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluate the results, print the scores and return them."""
    arguments, options = parse_arguments(argv)
    manifest = read_manifest(arguments.preprocess_path)
    task = task_to_evaluate(load_task_config("", [*as_options(manifest["config"]), *options]))
    network, batches = stored_evaluation(task, manifest, arguments.preprocess_path, arguments.result_path)
    return report_evaluation(task, network, batches)


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into what this script reads itself and the keys of the configuration."""
    parser = argparse.ArgumentParser(
        description=first_line(__doc__), allow_abbrev=False,
        epilog="The configuration is that of preprocess.py; all other options are keys of it that have changed since, "
               "such as the place of files, and --predictions_file.")
    parser.add_argument("--preprocess_path", default="./preprocess_Result", help="what preprocess.py wrote")
    parser.add_argument("--result_path", default="./result_Files", help="what the C++ program wrote")
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    run_script(main)
