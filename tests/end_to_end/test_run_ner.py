"""Named-entity recognition from raw text to predictions and export, in miniature: CRF and LSTM together."""

import json
import random
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from events import curve, read_events, texts
from mindspore import Tensor, nn
from pages import Page
from paths import REPOSITORY
from toy_ner import SEQ_LENGTH, VOCAB, ner_options, toy_sentence, write_toy_data

import export
import predict
import run_ner
from src.bert_for_finetune import BertNERTagger
from src.bert_model import BertConfig
from src.training.metrics_file import read_metrics
from src.weights import load_weights

COUNT = 21  # sentences to evaluate on


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy_data(tmp_path_factory.mktemp("toy_ner"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Train once: (directory of the checkpoints, scores)."""
    output = tmp_path_factory.mktemp("trained")
    return output, run_ner.main(ner_options(data, output, tensorboard_dir=output / "curves"))


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_training_learns_and_leaves_everything(trained):
    output, scores = trained
    assert scores["entity_f1"] > 0.9
    names = {path.name for path in output.iterdir()}
    assert {"ner_best.ckpt", "ner_predictions.jsonl", "ner_config.yaml", "metrics.jsonl"} < names
    assert {"accuracy", "bf1", "mf1", "entity_f1", "entity_f1_name"} < read_metrics(output / "metrics.jsonl")[-1].keys()


def test_predictions_tell_what_was_found_in_each_sentence(data, trained):
    lines = read_lines(trained[0] / "ner_predictions.jsonl")
    gold = read_lines(data / "dev.json")
    assert [line["index"] for line in lines] == list(range(COUNT))
    for number, (line, sentence) in enumerate(zip(lines, gold, strict=True), 1):
        assert (line["text"], line["file"], line["line"]) == (sentence["text"], str(data / "dev.json"), number)
        expected = sorted((start, end + 1, kind, mention) for kind, mentions in sentence["label"].items()
                          for mention, spans in mentions.items() for start, end in spans)
        assert [(e["start"], e["end"], e["type"], e["text"]) for e in line["gold"]] == expected


def test_the_report_marks_entities(trained):
    lines = read_lines(trained[0] / "ner_predictions.jsonl")
    report = Page((trained[0] / "report.html").read_text(encoding="utf-8"))
    wrong = [line for line in lines if line["entities"] != line["gold"]]
    assert sum(tag == "article" for tag, _ in report.tags) == len(wrong)
    spans = sum(len(line["entities"]) + len(line["gold"]) for line in wrong)
    assert len(report.marks) == spans and "Entities by type" in report.text


def test_tensorboard_has_the_numbers_of_the_metrics_file(trained):
    [path] = (trained[0] / "curves").iterdir()
    events = read_events(path)
    metrics = read_metrics(trained[0] / "metrics.jsonl")
    assert curve(events, "train/loss") == pytest.approx(
        {line["step"]: line["loss"] for line in metrics if "learning_rate" in line})
    assert curve(events, "evaluation/entity_f1") == pytest.approx(
        {line["step"]: line["entity_f1"] for line in metrics if "entity_f1" in line})
    assert "address" in texts(events, "predictions")[-1][1]


def test_both_formats_and_the_benchmark_agree(data, trained, tmp_path, capsys):
    output, scores = trained
    alone = {"do_train": "false", "load_finetune_checkpoint_path": output}
    from_tfrecord = run_ner.main(ner_options(
        data, tmp_path, dataset_format="tfrecord", eval_data_file_path=data / "dev.tf_record",
        schema_file_path=data / "dataset.json", eval_batch_size=4, length_grouping="none", **alone))
    assert from_tfrecord == pytest.approx(scores)
    capsys.readouterr()
    submission = tmp_path / "submission" / "ner_predict.json"
    benchmark = run_ner.main(ner_options(data, tmp_path, assessment_method="clue_benchmark",
                                         eval_data_file_path=data / "dev.json", predictions_file=submission, **alone))
    assert "Entities by type" in Page((submission.parent / "report.html").read_text(encoding="utf-8")).text
    assert benchmark["entity_f1"] == pytest.approx(scores["entity_f1"])
    assert f"clue_benchmark F1 {benchmark['clue_f1']:.6f} (mean of address" in capsys.readouterr().out
    right = sum(found["label"] == true["label"] for found, true in
                zip(read_lines(submission), read_lines(data / "dev.json"), strict=True))
    assert right > COUNT // 2


COUNT_MODULES = """
import sys
import predict
predict.main(sys.argv[1:])
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("src.")]
files = [file for file in files if not file.endswith("__init__.py")]
print(len(files), sum(len(open(file).readlines()) for file in files), any("/training/" in file for file in files))
"""


def test_prediction_loads_what_it_needs_and_no_training(trained):
    done = subprocess.run([sys.executable, "-c", COUNT_MODULES, "--config_path", str(trained[0] / "ner_config.yaml"),
                           "--load_finetune_checkpoint_path", str(trained[0]), "--text", "a"],
                          cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120)
    modules, lines, trains = done.stdout.splitlines()[-1].split()
    assert int(modules) <= 40 and int(lines) <= 6700 and trains == "False"


def test_new_sentences_of_any_length(data, trained, tmp_path):
    generator = random.Random(5)
    sentences = [toy_sentence(generator, pieces) for pieces in (1, 3, 40)]
    assert len(sentences[2]["text"]) > 4 * SEQ_LENGTH
    (tmp_path / "new.jsonl").write_text(
        "".join(json.dumps({"text": s["text"]}, ensure_ascii=False) + "\n" for s in sentences), encoding="utf-8")
    predict.main(["--config_path", str(trained[0] / "ner_config.yaml"), "--load_finetune_checkpoint_path",
                  str(trained[0]), "--input_file", str(tmp_path / "new.jsonl"),
                  "--output_file", str(tmp_path / "found.jsonl")])
    found = read_lines(tmp_path / "found.jsonl")
    assert [item["text"] for item in found] == [s["text"] for s in sentences]
    right = total = 0
    for item, sentence in zip(found, sentences, strict=True):
        for entity in item["entities"]:
            assert item["text"][entity["start"]:entity["end"]] == entity["text"]
        gold = {(kind, start, end + 1) for kind, mentions in sentence["label"].items()
                for spans in mentions.values() for start, end in spans}
        right += len(gold & {(e["type"], e["start"], e["end"]) for e in item["entities"]})
        total += len(gold)
    assert right / total > 0.8


def test_exported_models_find_the_same_entities(data, trained, tmp_path):
    config = ["--config_path", str(trained[0] / "ner_config.yaml")]
    generator, pieces = random.Random(3), 2
    texts = [part for _ in range(4) for part in ("--text", toy_sentence(generator, pieces)["text"])]
    predict.main([*config, "--load_finetune_checkpoint_path", str(trained[0]), *texts,
                  "--output_file", str(tmp_path / "wanted.jsonl")])
    for name, options in (("bert.mindir", ["--export_batch_size", "0"]), ("bert.onnx", ["--file_format", "ONNX"])):
        export.main([*config, "--export_ckpt_file", str(trained[0]), "--export_file_name", str(tmp_path / name),
                     *options])
        predict.main([*config, "--model", str(tmp_path / name), *texts, "--eval_batch_size", "3",
                      "--output_file", str(tmp_path / "found.jsonl")])
        assert read_lines(tmp_path / "found.jsonl") == read_lines(tmp_path / "wanted.jsonl")
    predict.main([*config, "--model", str(tmp_path / "bert.mindir"), *texts[:2],  # another batch size in this process
                  "--output_file", str(tmp_path / "found.jsonl")])
    assert read_lines(tmp_path / "found.jsonl") == read_lines(tmp_path / "wanted.jsonl")[:1]


def test_the_exported_model_gives_the_same_tags_for_any_batch(data, trained, tmp_path):
    export.main(["--config_path", str(trained[0] / "ner_config.yaml"), "--export_ckpt_file", str(trained[0]),
                 "--export_file_name", str(tmp_path / "bert_ner"), "--export_batch_size", "0"])
    about = json.loads((tmp_path / "bert_ner.json").read_text(encoding="utf-8"))
    assert about["outputs"] == ["tags"]
    assert about["labels"][:3] == ["O", "S_address", "B_address"]
    network = BertNERTagger(BertConfig(
        seq_length=SEQ_LENGTH, vocab_size=len(VOCAB), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, type_vocab_size=2), 9, use_crf=True, with_lstm=True)
    load_weights(network.set_train(False), trained[0], "ner")
    model = nn.GraphCell(ms.load(str(tmp_path / "bert_ner.mindir")))
    # Without this the graph would be compiled for each batch size, which fails for a graph with a loop.
    model.set_inputs(*[Tensor(shape=[None, SEQ_LENGTH], dtype=ms.int32)] * 3)
    generator = np.random.default_rng(0)
    for batch in (1, 5):
        ids = generator.integers(5, len(VOCAB), (batch, SEQ_LENGTH)).astype(np.int32)
        mask = (np.arange(SEQ_LENGTH) < generator.integers(3, SEQ_LENGTH + 1, (batch, 1))).astype(np.int32)
        inputs = [Tensor(values) for values in (ids, mask, np.zeros_like(ids))]
        assert model(*inputs).asnumpy().tolist() == network(*inputs).asnumpy().tolist()
