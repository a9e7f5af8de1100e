"""Sound inputs of every command, each of which a test can replace by a bad one; and the commands themselves."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import toy_finetuning
import toy_ner
import toy_pretraining
import toy_squad
from paths import FIXTURES

import export
import postprocess
import predict
import preprocess
import pretrain_eval
import quick_start
import run_classifier
import run_eval_onnx
import run_ner
import run_pretrain
import run_squad
from scripts import start_ranks
from scripts.ascend_distributed_launcher import get_distribute_pretrain_cmd
from src.generate_mindrecord import (
    generate_chinesener_mindrecord,
    generate_cluener_mindrecord,
    generate_conll_mindrecord,
    generate_glue_mindrecord,
    generate_pretrain_mindrecord,
    generate_squad_mindrecord,
    generate_tnews_mindrecord,
)
from src.tasks.registry import load_task_config, task_type
from src.tokenization import SPECIAL_TOKENS
from src.tools import build_vocab, convert_checkpoint, parallel_tfrecord_to_mindrecord, vis_tfrecord_or_mindrecord
from src.weights import save_weights

RANK_TABLE = {"version": "1.0", "server_count": "1", "status": "completed", "server_list": [
    {"server_id": "10.0.0.1", "device": [{"device_id": "0", "device_ip": "192.1.0.1", "rank_id": "0"}]}]}
DESCRIPTION = {"task": "run_classifier", "format": "MINDIR", "inputs": ["input_ids"], "input_shape": [None, 16],
               "outputs": ["logits"], "num_class": 3, "labels": None, "vocab_size": 40, "max_length": 32, "config": {}}


def commands(folder: Path) -> dict[str, list[str]]:
    """The sound command line of each command, by its name."""
    out = folder / "out"
    classifier = toy_finetuning.tiny_options(folder, out, vocab_file_path=folder / "vocab.txt",
                                             label_file_path=folder / "labels.txt")
    trained = ["--load_finetune_checkpoint_path", str(folder / "classifier.ckpt")]
    as_classifier = [*classifier, "--description", "run_classifier"]
    records = ["--vocab_file", str(folder / "vocab.txt"), "--output_dir", str(out), "--max_seq_length", "16"]
    return {
        "run_pretrain": toy_pretraining.tiny_options(data_dir=folder / "pretrain", save_checkpoint_path=out),
        "pretrain_eval": toy_pretraining.tiny_options(eval_data_dir=folder / "pretrain",
                                                      eval_ckpt=folder / "pretrain.ckpt"),
        "run_classifier": classifier,
        "run_ner": toy_ner.ner_options(folder / "ner", out),
        "run_squad": toy_squad.tiny_options(folder / "squad", out),
        "predict": [*as_classifier, *trained, "--text", "w5"],
        "export": [*as_classifier, "--export_ckpt_file", str(folder / "classifier.ckpt"), "--export_file_name",
                   str(out / "model")],
        "run_eval_onnx": [*as_classifier, "--export_file_name", str(folder / "model" / "model.onnx")],
        "preprocess": [*as_classifier, "--result_path", str(out / "inputs")],
        "postprocess": ["--preprocess_path", str(folder / "inputs"), "--result_path", str(folder / "results")],
        "quick_start": ["--output_dir", str(out), "--text", str(folder / "corpus.txt")],
        "convert_checkpoint": ["--input_path", str(folder / "hf"), "--output_dir", str(out)],
        "generate_pretrain": ["--input_file", str(folder / "corpus.txt"), "--output_file", str(out / "a.mindrecord"),
                              "--vocab_file", str(folder / "vocab.txt"), "--num_workers", "1"],
        "generate_glue": ["--task_name", "jsonl", "--data_dir", str(folder / "jsonl"), *records],
        "generate_glue_tsv": ["--task_name", "tsv", "--data_dir", str(folder / "tsv"), *records],
        "generate_glue_csv": ["--task_name", "csv", "--data_dir", str(folder / "csv"), *records],
        "generate_tnews": ["--data_dir", str(folder / "tnews"), *records],
        "generate_cluener": ["--data_dir", str(folder / "cluener"), *records],
        "generate_conll": ["--train_file", str(folder / "conll.txt"), *records],
        "generate_chinesener": ["--data_dir", str(folder / "chinesener"), *records],
        "generate_squad": ["--train_file", str(folder / "squad" / "train.json"), "--vocab_file",
                           str(folder / "squad" / "vocab.txt"), "--output_dir", str(out), "--max_seq_length", "40",
                           "--max_query_length", "8"],
        "build_vocab": ["--input_file", str(folder / "corpus.txt"), "--output_file", str(out / "new.txt"),
                        "--vocab_size", "60"],
        "vis_records": ["--file_name", str(folder / "train.mindrecord"), "--vis_option", "vis_mindrecord"],
        "parallel_tfrecord": ["--input_tfrecord_dir", str(folder / "train.tf_record"), "--output_mindrecord_dir",
                              str(out)],
        "start_ranks": ["--processes", "1", "--", "nothing.py"],
        "rank_table": ["--data_dir", str(folder), "--hccl_config", str(folder / "hccl.json"), "--cmd_file",
                       str(out / "cmd.sh"), "--server_id", "10.0.0.1"],
    }


MAINS: dict[str, Callable[[list[str]], object]] = {
    "run_pretrain": run_pretrain.main, "pretrain_eval": pretrain_eval.main, "run_classifier": run_classifier.main,
    "run_ner": run_ner.main, "run_squad": run_squad.main, "predict": predict.main, "export": export.main,
    "run_eval_onnx": run_eval_onnx.main, "preprocess": preprocess.main, "postprocess": postprocess.main,
    "quick_start": quick_start.main, "convert_checkpoint": convert_checkpoint.main,
    "generate_pretrain": generate_pretrain_mindrecord.main, "generate_glue": generate_glue_mindrecord.main,
    "generate_glue_tsv": generate_glue_mindrecord.main, "generate_glue_csv": generate_glue_mindrecord.main,
    "generate_tnews": generate_tnews_mindrecord.main, "generate_cluener": generate_cluener_mindrecord.main,
    "generate_conll": generate_conll_mindrecord.main, "generate_chinesener": generate_chinesener_mindrecord.main,
    "generate_squad": generate_squad_mindrecord.main, "build_vocab": build_vocab.main,
    "vis_records": vis_tfrecord_or_mindrecord.main, "parallel_tfrecord": parallel_tfrecord_to_mindrecord.main,
    "start_ranks": start_ranks.main, "rank_table": get_distribute_pretrain_cmd.main,
}


def write_inputs(folder: Path) -> Path:
    """Everything that the command lines of `commands` name."""
    words = [f"w{number}" for number in range(5, toy_finetuning.VOCAB_SIZE)]
    _write(folder / "vocab.txt", "\n".join([*SPECIAL_TOKENS, *words]) + "\n")
    _write(folder / "labels.txt", "zero\none\ntwo\n")
    _write(folder / "corpus.txt", "".join(f"w{n} w{n + 1} w{n + 2} .\nw5 w6 .\n\n" for n in range(5, 35)))
    for name, seed in (("train.mindrecord", 0), ("dev.mindrecord", 1), ("train.tf_record", 0)):
        toy_finetuning.write_rows(folder / name, toy_finetuning.toy_rows(8, seed))
    toy_pretraining.write_records(folder / "pretrain", toy_pretraining.toy_batch(16))
    (folder / "ner").mkdir()
    toy_ner.write_toy_data(folder / "ner")
    toy_squad.write_toy(folder / "squad", train=toy_squad.toy_squad(4), dev=toy_squad.toy_squad(2, 1))
    row = {"text": "w5 w6", "sentence": "w5 w6", "label": "zero"}
    lines = "".join(json.dumps(row | {"label": label}) + "\n" for label in ("zero", "one", "two"))
    _write(folder / "jsonl" / "train.jsonl", lines)
    _write(folder / "tnews" / "train.json", lines)
    for name, tab in (("tsv", "\t"), ("csv", ",")):
        _write(folder / name / f"train.{name}", f"text{tab}label\nw5{tab}a\nw6{tab}b\n")
    _write(folder / "cluener" / "train.json", json.dumps({"text": "w5 w6", "label": {"name": {"w5": [[0, 1]]}}}) + "\n")
    for name in ("conll.txt", "chinesener/example.train"):
        _write(folder / name, "w5 B-PER\nw6 O\n\n")
    _write(folder / "hccl.json", json.dumps(RANK_TABLE))
    _write(folder / "settings.ini", "[config]\ntrain_steps = 3\n")
    _write(folder / "model" / "model.json", json.dumps(DESCRIPTION))
    _write(folder / "model" / "model.mindir", "no model")
    _write(folder / "model" / "model.onnx", "no model")
    shutil.copytree(FIXTURES / "exchange" / "classifier", folder / "hf")
    _write_checkpoints(folder)
    with redirect_stdout(StringIO()):
        preprocess.main([*commands(folder)["preprocess"], "--result_path", str(folder / "inputs")])
    return folder


def _write_checkpoints(folder: Path) -> None:
    """Initial weights of the tiny networks: what is read of them is their files."""
    options = commands(folder)
    for name, source in (("classifier", options["run_classifier"]), ("pretrain", options["run_pretrain"])):
        description = "run_classifier" if name == "classifier" else "run_pretrain"
        config = load_task_config("", [*source, "--description", description])
        save_weights(task_type(description).from_config(config, "CPU").inference_network(), folder / f"{name}.ckpt")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def left_in(folder: Path) -> list[str]:
    """What a command left in a folder, such as a file half-written."""
    return sorted(os.fspath(path.relative_to(folder)) for path in folder.rglob("*"))
