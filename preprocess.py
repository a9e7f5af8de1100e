"""Write the records of a task as input files for the C++ program in ascend310_infer.

    python preprocess.py --model_path bert_classifier.mindir --label_file_path labels.txt \\
        --eval_data_file_path dev.mindrecord --result_path preprocess_Result
"""

import argparse

from src.errors import UserError, first_line, run_script
from src.generate_mindrecord.raw_data import prepared_data
from src.inference.cpp_inference import check_inputs, inference_config, read_about, task_names, write_inputs
from src.model_utils.switch import SWITCH
from src.tasks.evaluation import task_to_evaluate

SPELLINGS = {"sqaud": "squad"}  # as one of the documents has it


def main(argv: list[str] | None = None) -> None:
    """Read the configuration and write the files."""
    arguments, options = parse_arguments(argv)
    about = read_about(arguments.model_path) if arguments.model_path else None
    if arguments.keep:
        check_inputs(arguments.result_path, arguments.task, arguments.model_path, about)
        return
    config = inference_config(arguments.task, about, options)
    count = write_inputs(task_to_evaluate(config, prepared_data), arguments.model_path, about, arguments.result_path)
    print(f"{count} batches: inputs in {arguments.result_path}", flush=True)


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into what this script reads itself and the keys of the configuration."""
    parser = argparse.ArgumentParser(
        description=first_line(__doc__), allow_abbrev=False,
        epilog="All other options are keys of the task's configuration, such as --eval_data_file_path and "
               "--eval_batch_size; the task is that of the model, of --config_path, or --task.")
    parser.add_argument("--model_path", default="",
                        help="the model; the file beside it tells task, sizes and batch size")
    names = task_names()
    parser.add_argument("--task", default="", help=f"one of {', '.join(names)}")
    parser.add_argument("--result_path", default="./preprocess_Result", help="directory of the files")
    parser.add_argument("--keep", default=False, **SWITCH, help="write nothing, but make sure that the files there are "
                                                                "of this task and this model")
    arguments, options = parser.parse_known_args(argv)
    arguments.task = SPELLINGS.get(arguments.task.lower(), arguments.task.lower())
    if arguments.task not in ("", *names):
        raise UserError(f"--task: found {arguments.task}, expected one of {', '.join(names)}")
    return arguments, options


if __name__ == "__main__":
    run_script(main)
