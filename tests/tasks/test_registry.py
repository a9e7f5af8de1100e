"""The registry of tasks, and a task that is added to it from outside: the example of CONTRIBUTING.md."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import toy_task
import yaml
from paths import REPOSITORY, TESTS
from toy_finetuning import CLASSES, CLS, SEP, SEQ_LENGTH, VOCAB_SIZE, tiny_options, write_rows

import export
import predict
import run_eval_onnx
from src.errors import UserError
from src.exchange.model import Report
from src.exchange.repository import read as read_for_exchange
from src.inference.cpp_inference import task_names
from src.model_utils.config import Config, sizes_group
from src.tasks import registry
from src.tasks.finetuning import run_finetuning
from src.tokenization import SPECIAL_TOKENS

TEXTS = ["甲乙甲丙乙甲", "丙丁乙戊甲己丁乙戊甲己丁", "庚庚庚庚庚庚庚庚庚庚庚庚庚庚庚庚", "丁"]
WORDS = "甲乙丙丁戊己庚辛壬"


# ---------------------------------------------------------------- the registry

@pytest.mark.parametrize("description", registry.TASKS)
def test_a_task_is_that_of_its_configuration(description):
    task = registry.task_type(description)
    values, _, allowed = yaml.safe_load_all((REPOSITORY / task.config_file).read_text(encoding="utf-8"))
    assert task.description == values["description"] == description
    assert allowed["description"] == [description]
    assert task.weights_option in values


@pytest.mark.parametrize("description", registry.TASKS)
def test_each_task_has_a_configuration_for_any_machine(description):
    task = registry.task_type(description)
    config = registry.load_task_config("", ["--config_path", task.config_file.replace("_config", "_cpu_config")])
    assert (config.description, config.device_target) == (description, "auto")
    assert config[sizes_group(config)].compute_type == "float32"


def test_no_two_tasks_share_a_name():
    tasks = registry.all_tasks()
    for key in ("name", "description", "config_file"):
        assert len({getattr(task, key) for task in tasks}) == len(tasks)
    assert len({task.checkpoint_prefix() for task in tasks}) == len(tasks)


@pytest.mark.parametrize(("options", "message"), [
    (["--description", "run_translation"], "--config_path is not set; give the configuration of the task"),
    ([], "--config_path is not set; give the configuration of the task"),
])
def test_unknown_description_on_the_command_line(options, message):
    with pytest.raises(UserError, match=message) as caught:
        registry.load_task_config("", options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("description", "shown"), [("run_translation", '"run_translation"'),
                                                    ("[run_ner]", r"\['run_ner'\]"), ("{a: 1}", "{'a': 1}")])
def test_unknown_description_in_a_file(tmp_path, description, shown):
    (tmp_path / "a.yaml").write_text(f"description: {description}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"a.yaml: description: found {shown}, expected one of run_class") as caught:
        registry.load_task_config("", ["--config_path", str(tmp_path / "a.yaml")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("description", ["run_pretrain", "run_translation"])
def test_what_is_no_fine_tuning(description):
    with pytest.raises(UserError, match=f"description: {description} is no fine-tuning task"):
        registry.finetune_task_type(Config({"description": description}))


# ---------------------------------------------------------------- a task from outside

def toy_rows(count, seed):
    """Texts of the words of three kinds; class c applies if a text has words of kind c, `WORDS[3 c:3 c + 3]`."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (count, CLASSES))
    labels[labels.sum(axis=1) == 0, 0] = 1  # at least one
    first = len(SPECIAL_TOKENS)
    ids = np.zeros((count, SEQ_LENGTH), np.int32)
    mask = np.zeros_like(ids)
    for row, applies in enumerate(labels):
        length = generator.integers(5, SEQ_LENGTH + 1)
        kinds = np.resize(np.flatnonzero(applies), length - 2)
        ids[row, :length] = [CLS, *(first + 3 * kinds + generator.integers(0, 3, length - 2)), SEP]
        mask[row, :length] = 1
    return {"input_ids": ids, "input_mask": mask, "segment_ids": np.zeros_like(ids), "labels": labels}


@pytest.fixture(scope="module")
def added():
    """The registry with the toy task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "run_multilabel", "toy_task:MultiLabelTask")
        yield patch


@pytest.fixture(scope="module")
def toy(added, tmp_path_factory):
    """A trained toy task: its scores, its directory, its configuration beside the checkpoint."""
    folder = tmp_path_factory.mktemp("multilabel")
    text = (REPOSITORY / "task_classifier_config.yaml").read_text(encoding="utf-8")
    text = text.replace("run_classifier", "run_multilabel")
    text = re.sub(r"^(assessment_method|class_weights): .*\n", "", text, flags=re.MULTILINE)
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    added.setattr(toy_task.MultiLabelTask, "config_file", str(folder / "task.yaml"))
    vocab = [*SPECIAL_TOKENS, *WORDS]
    vocab += [f"[unused{number}]" for number in range(VOCAB_SIZE - len(vocab))]
    (folder / "vocab.txt").write_text("\n".join(vocab), encoding="utf-8")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n", encoding="utf-8")
    for name, count, seed in (("train", 120, 0), ("dev", 21, 1)):
        write_rows(folder / f"{name}.mindrecord", toy_rows(count, seed))
    options = tiny_options(folder, folder / "out", epoch_num=60, train_batch_size=40, train_with_eval="false",
                           length_grouping="none", vocab_file_path=folder / "vocab.txt",
                           label_file_path=folder / "labels.txt")
    scores = run_finetuning("", toy_task.MultiLabelTask, options)
    config = folder / "out" / "multilabel_config.yaml"
    return SimpleNamespace(folder=folder, out=folder / "out", options=options, scores=scores,
                           config=["--config_path", str(config)])


def predictions(options, capsys):
    capsys.readouterr()
    predict.main([*options, *(part for text in TEXTS for part in ("--text", text))])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def assert_equal_predictions(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one["labels"] == other["labels"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_it_trains(toy):
    assert toy.scores["micro_f1"] > 0.9
    assert {path.name for path in toy.out.iterdir()} >= {"multilabel_best.ckpt", "multilabel_config.yaml",
                                                         "multilabel_predictions.jsonl", "loss.png", "metrics.jsonl"}
    lines = [json.loads(line) for line in
             (toy.out / "multilabel_predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert np.mean([line["labels"] == line["gold"] for line in lines]) == pytest.approx(toy.scores["exact_match"])


def test_it_evaluates(toy, capsys):
    found = run_finetuning("", toy_task.MultiLabelTask, [*toy.config, "--do_train", "false",
                                                         "--load_finetune_checkpoint_path", str(toy.out)])
    assert found == toy.scores
    assert f"micro F1 {found['micro_f1']:.6f}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def exported(toy):
    """A MINDIR and an ONNX model."""
    paths = {}
    for file_format, ending in (("MINDIR", "mindir"), ("ONNX", "onnx")):
        export.main([*toy.config, "--export_ckpt_file", str(toy.out), "--export_file_name", str(toy.folder / "model"),
                     "--export_batch_size", "0", "--file_format", file_format])
        paths[ending] = toy.folder / f"model.{ending}"
    return paths


def test_it_predicts_with_equal_results_from_exported_models(toy, exported, capsys):
    expected = predictions([*toy.config, "--load_finetune_checkpoint_path", str(toy.out)], capsys)
    assert [line["text"] for line in expected] == TEXTS
    assert expected[1]["labels"] == ["red", "green"]
    for model in exported.values():
        assert_equal_predictions(predictions([*toy.config, "--model", str(model)], capsys), expected)


def test_its_onnx_model_has_its_scores(toy, exported):
    found = run_eval_onnx.main([*toy.config, "--export_file_name", str(exported["onnx"])])
    assert found == pytest.approx(toy.scores)


def test_everything_that_asks_the_registry_knows_it(toy):
    assert task_names()["multilabel"] == ["--description=run_multilabel"]
    model = read_for_exchange(toy.out / "multilabel_best.ckpt", "multilabel", toy.config, Report())
    assert (model.num_labels, model.labels, model.has_classes) == (CLASSES, ["red", "green", "blue"], True)


def test_a_record_that_does_not_fit_is_one_line(toy, tmp_path):
    rows = toy_rows(8, seed=2)
    rows["labels"][3, 1] = 2
    write_rows(tmp_path / "dev.mindrecord", rows)
    with pytest.raises(UserError, match=r"dev.mindrecord: record 3: labels holds 2, expected 0 to 1 \(a class applies"):
        run_finetuning("", toy_task.MultiLabelTask, [
            *toy.config, "--do_train", "false", "--eval_data_file_path", str(tmp_path / "dev.mindrecord"),
            "--load_finetune_checkpoint_path", str(toy.out)])


def test_scores():
    predicted, labels = np.array([[1, 0], [1, 1], [0, 0]], bool), np.array([[1, 0], [0, 1], [0, 0]], bool)
    assert toy_task.multilabel_scores(predicted, labels) == {"exact_match": 2 / 3, "micro_f1": 4 / 5}
    assert toy_task.multilabel_scores(labels[2:], labels[2:]) == {"exact_match": 1.0, "micro_f1": 0.0}


def test_the_documentation_shows_this_very_task():
    code = (TESTS / "toy_task.py").read_text(encoding="utf-8")
    assert f"```python\n{code}```" in (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
