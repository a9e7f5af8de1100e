"""The flow of every fine-tuning script, run with a tiny classifier."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import toy_pretraining
import yaml
from mindspore import Tensor
from pages import Page
from toy_finetuning import CLASSES, tiny_options, toy_rows, write_rows

import run_classifier
from src.assessment_method import classification_scores
from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig
from src.errors import UserError
from src.training.metrics_file import read_metrics
from src.weights import read_weights, save_weights

TRAIN, DEV = 60, 21  # neither fills its last batch
EPOCHS, STEPS = 6, 45  # in batches of 8


@pytest.fixture(scope="session")
def toy_task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy_task")
    for ending in ("mindrecord", "tf_record"):
        write_rows(folder / f"train.{ending}", toy_rows(TRAIN))
        write_rows(folder / f"dev.{ending}", toy_rows(DEV, seed=1))
    (folder / "labels.txt").write_text("zero\none\ntwo\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(toy_task, tmp_path_factory):
    """Train once: (scores, directory, what was printed)."""
    output = tmp_path_factory.mktemp("trained") / "checkpoints"
    run = toy_pretraining.start_script("run_classifier.py", tiny_options(
        toy_task, output, label_file_path=toy_task / "labels.txt", epoch_num=EPOCHS), output.parent)
    printed, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    return output, printed


def losses(directory):
    return {line["step"]: line["loss"] for line in read_metrics(directory / "metrics.jsonl") if "loss_scale" in line}


def scores(directory):
    return [line for line in read_metrics(directory / "metrics.jsonl") if "accuracy" in line]


def test_training_learns_and_leaves_everything(trained):
    output, printed = trained
    names = {path.name for path in output.iterdir()}
    assert names == {"metrics.jsonl", "loss.png", "classifier_config.yaml", "classifier_best.ckpt",
                     "classifier_best.about.json", "classifier_predictions.jsonl", "classifier-6_45.ckpt",
                     "classifier-6_45.state.safetensors", "classifier-6_45.json", "report.html", "README.md",
                     "labels.txt", "model.json"}
    assert list(losses(output)) == list(range(1, STEPS + 1))
    assert [line["step"] for line in scores(output)] == [8, 16, 24, 32, 40, 45]
    assert scores(output)[-1]["accuracy"] > 0.8
    assert f" , total_num {DEV}, accuracy " in printed
    assert "best accuracy, after step" in printed


def test_the_report_is_of_the_best_weights_with_the_whole_curve(trained):
    output, _ = trained
    report = Page((output / "report.html").read_text(encoding="utf-8"))
    about = json.loads((output / "classifier_best.about.json").read_text(encoding="utf-8"))
    assert f"run_classifier: best weights, after step {about['step']}" in report.text
    assert f"accuracy{about['results']['accuracy']:.4f}" in report.text.replace("\n", "")
    lines = [json.loads(line) for line in
             (output / "classifier_predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = sum(line["label"] != line["gold"] for line in lines)
    assert sum(tag == "article" for tag, _ in report.tags) == wrong
    rows = [[sum(line["gold"] == gold and line["label"] == label for line in lines) for label in ("zero", "one", "two")]
            for gold in ("zero", "one", "two")]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", (output / "report.html").read_text().split("Confusion matrix")[1])
    assert cells[:12] == [str(cell) for name, row in zip(("zero", "one", "two"), rows, strict=True)
                          for cell in (name, *row)]
    assert f">{STEPS}</text>" in (output / "report.html").read_text()  # where the curves end


def test_predictions_are_those_of_the_best_weights(trained):
    output, _ = trained
    about = json.loads((output / "classifier_best.about.json").read_text(encoding="utf-8"))
    assert about["results"]["accuracy"] == max(line["accuracy"] for line in scores(output))
    lines = [json.loads(line) for line in
             (output / "classifier_predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["index"] for line in lines] == list(range(DEV))
    names = ["zero", "one", "two"]
    assert [line["gold"] for line in lines] == [names[label] for label in toy_rows(DEV, seed=1)["label_ids"][:, 0]]
    right = sum(line["label"] == line["gold"] for line in lines)
    assert right / DEV == pytest.approx(about["results"]["accuracy"])


@pytest.mark.parametrize("options", [{}, {"eval_batch_size": 4, "length_grouping": "none"},
                                     {"dataset_format": "tfrecord", "schema_file_path": "dataset.json"}])
def test_evaluation_alone_gives_the_same_scores(trained, toy_task, tmp_path, capsys, options):
    output, _ = trained
    if "dataset_format" in options:
        options = options | {"eval_data_file_path": toy_task / "dev.tf_record",
                             "schema_file_path": toy_task / "dataset.json"}
    found = run_classifier.main(tiny_options(
        toy_task, tmp_path, do_train="false", load_finetune_checkpoint_path=output,
        predictions_file=tmp_path / "new" / "predictions.jsonl", label_file_path=toy_task / "labels.txt", **options))
    best = json.loads((output / "classifier_best.about.json").read_text(encoding="utf-8"))["results"]
    assert found == pytest.approx(best, abs=1e-5)
    written = (tmp_path / "new" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(written) == DEV
    assert "acc_num" in capsys.readouterr().out


def test_the_written_configuration_repeats_the_run(trained, tmp_path):
    output, _ = trained
    config = yaml.safe_load((output / "classifier_config.yaml").read_text(encoding="utf-8"))
    assert config["bert_net_cfg"]["hidden_size"] == 16
    found = run_classifier.main(["--config_path", str(output / "classifier_config.yaml"), "--do_train", "false",
                                 "--load_finetune_checkpoint_path", str(output / "classifier_best.ckpt")])
    assert found["accuracy"] == max(line["accuracy"] for line in scores(output))


@pytest.mark.slow
def test_resume_after_a_kill_gives_the_same_digits(trained, toy_task, tmp_path):
    whole, _ = trained
    options = tiny_options(toy_task, tmp_path / "killed", epoch_num=EPOCHS, save_checkpoint_steps=2, resume="true")
    run = toy_pretraining.start_script("run_classifier.py", options, tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("classifier-2_*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = len(losses(tmp_path / "killed"))
    assert 8 <= done < STEPS
    assert run_classifier.main(options)
    assert losses(tmp_path / "killed") == losses(whole)
    assert [{**line, "f1": 0} for line in scores(tmp_path / "killed")] == [{**line, "f1": 0} for line in scores(whole)]
    best = [read_weights(folder / "classifier_best.ckpt") for folder in (whole, tmp_path / "killed")]
    assert best[0].keys() == best[1].keys() >= {"bert.bert.bert_embedding_lookup.embedding_table"}
    assert all(np.array_equal(best[0][name], best[1][name]) for name in best[0])


def test_a_finished_run_is_not_repeated(trained, toy_task, capsys):
    output, _ = trained
    before = (output / "metrics.jsonl").read_bytes()
    found = run_classifier.main(tiny_options(toy_task, output, epoch_num=EPOCHS, resume="true"))
    assert "nothing left to do: 45 of 45 steps are done" in capsys.readouterr().out
    assert found["accuracy"] == max(line["accuracy"] for line in scores(output))
    assert (output / "metrics.jsonl").read_bytes() == before


def test_early_stopping(toy_task, tmp_path, capsys):
    options = tiny_options(toy_task, tmp_path / "out", epoch_num=30, early_stopping_patience=2, eval_steps=1,
                           optimizer_cfg__AdamWeightDecay__learning_rate=0.0)
    run_classifier.main(options)  # nothing is learnt, so nothing gets better
    assert [line["step"] for line in scores(tmp_path / "out")] == [1, 2, 3]
    assert (tmp_path / "out" / "classifier-1_3.ckpt").is_file()
    assert "no better accuracy in 2 evaluations: stopped early" in capsys.readouterr().out
    run_classifier.main([*options, "--resume", "true"])  # stays stopped
    assert [line["step"] for line in scores(tmp_path / "out")] == [1, 2, 3]


def test_starts_from_a_pretrained_checkpoint(toy_task, tmp_path, capsys):
    config = BertConfig(seq_length=16, vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32, type_vocab_size=2)
    pretrained = BertNetworkWithLoss(config, is_training=True)
    initialize_parameters(pretrained, 0.5, seed=7)
    save_weights(pretrained, tmp_path / "pretrained.ckpt")
    run_classifier.main(tiny_options(
        toy_task, tmp_path / "out", do_eval="false", train_steps=1, optimizer_cfg__AdamWeightDecay__learning_rate=0.0,
        load_pretrain_checkpoint_path=tmp_path / "pretrained.ckpt"))
    printed = capsys.readouterr().out
    assert "loaded 23 of the network's 25 parameters" in printed
    assert "bert.dense_1.weight" in printed
    trained = read_weights(tmp_path / "out" / "classifier-1_1.ckpt")
    for parameter in pretrained.bert.bert.get_parameters():
        assert np.array_equal(trained[parameter.name], parameter.asnumpy()), parameter.name


def test_regression(tmp_path, capsys):
    write_rows(tmp_path / "train.mindrecord", toy_rows(TRAIN, regression=True))
    write_rows(tmp_path / "dev.mindrecord", toy_rows(DEV, seed=1, regression=True))
    found = run_classifier.main(tiny_options(tmp_path, tmp_path / "out", num_class=1, epoch_num=4,
                                             assessment_method="spearman_CORRELATION"))
    assert found["spearman"] > 0.6
    assert f"Spearman Correlation is {found['spearman']:.6f}" in capsys.readouterr().out
    lines = (tmp_path / "out" / "classifier_predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(lines[0])) == {"index", "value", "gold"}


@pytest.mark.parametrize(("method", "line"), [("f1", "Recall {recall:.6f}\nF1 {f1:.6f}\n"), ("MCC", "MCC {mcc:.6f}\n")])
def test_other_scores_are_printed(trained, toy_task, tmp_path, capsys, method, line):
    output, _ = trained
    found = run_classifier.main(tiny_options(toy_task, tmp_path, do_train="false", assessment_method=method,
                                             load_finetune_checkpoint_path=output))
    assert capsys.readouterr().out.endswith(line.format(**found))


@pytest.mark.parametrize(("options", "message"), [
    ({"do_train": "false", "do_eval": "false"}, "do_train and do_eval are both false"),
    ({"train_data_file_path": ""}, "train_data_file_path is not set"),
    ({"eval_data_file_path": ""}, "eval_data_file_path is not set"),
    ({"load_pretrain_checkpoint_path": ""}, "load_pretrain_checkpoint_path is not set.* or none to train from random"),
    ({"load_pretrain_checkpoint_path": "absent.ckpt"}, "there is no checkpoint absent.ckpt"),
    ({"do_train": "false"}, "load_finetune_checkpoint_path is not set"),
    ({"num_class": 2}, r"label_ids holds 2, expected 0 to 1 \(num_class is 2\)"),
    ({"num_class": 1}, "assessment_method: Accuracy does not fit regression"),
    ({"assessment_method": "Pearson_correlation"}, "does not fit num_class 3; choose one of accuracy, f1, mcc"),
    ({"class_weights": "1,2"}, "class_weights: found '1,2', expected balanced or 3 numbers"),
    ({"bert_net_cfg.seq_length": 8}, "seq_length is 8, but the records of .* have 16 tokens"),
])
def test_mistakes(toy_task, tmp_path, options, message):
    with pytest.raises(UserError, match=message) as caught:
        run_classifier.main(tiny_options(toy_task, tmp_path / "out", **options))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_checkpoint_of_another_size_is_refused(trained, toy_task, tmp_path):
    alone = shutil.copy(trained[0] / "classifier_best.ckpt", tmp_path / "alone.ckpt")
    with pytest.raises(UserError, match=r"parameters of the network, such as bert.dense_1.weight \(\[3, 16\] there, "
                                        r"\[5, 16\] here\)"):
        run_classifier.main(tiny_options(toy_task, tmp_path, do_train="false", num_class=5,
                                         load_finetune_checkpoint_path=alone))


def test_help_and_exit_status():
    run = subprocess.run([sys.executable, str(toy_pretraining.REPOSITORY / "run_classifier.py"), "--do_trian", "true"],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert run.stderr.strip() == "error: the command line: unknown option --do_trian; did you mean do_train?"


def test_class_weights_balanced(toy_task):
    """Balanced weights make rare classes count as much as frequent ones."""
    from src.model_utils.config import load_config
    from src.tasks.classifier.task import ClassifierTask

    config = load_config("", "task_classifier_config.yaml",
                         tiny_options(toy_task, toy_task, class_weights="balanced"))
    network = ClassifierTask.from_config(config, "CPU").training_network()
    counts = np.bincount(toy_rows(TRAIN)["label_ids"][:, 0], minlength=CLASSES)
    weights = network.loss.class_weights.asnumpy()
    np.testing.assert_allclose(weights * counts, np.full(CLASSES, TRAIN / CLASSES), rtol=1e-5)
    assert isinstance(network.loss.class_weights, Tensor)
    assert set(classification_scores(np.eye(3, dtype=np.float32), np.arange(3))) >= {"accuracy", "mcc"}
