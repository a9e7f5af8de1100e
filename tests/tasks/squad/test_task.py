"""The network of question answering against PyTorch, and the task from JSON file to scores."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from mindspore import Tensor
from paths import FIXTURES, REPOSITORY
from toy_squad import SEQ_LENGTH, tiny_options, toy_squad, write_toy

import run_squad
from src.bert_for_finetune import BertSquad
from src.bert_model import BertConfig
from src.errors import UserError
from src.finetune_eval_model import BertSquadModel, WithPrefix
from src.generate_mindrecord.generate_squad_mindrecord import main as generate
from src.model_utils.config import load_config
from src.tasks.squad.answers import Candidate, QuestionAnswers, score_squad_1
from src.tasks.squad.examples import read_squad
from src.tasks.squad.task import SquadTask
from src.training.metrics_file import read_metrics
from src.training.optimizer import AdamWeightDecay, WarmUpPolynomialDecay
from src.training.train_step import TrainStep
from src.weights import read_weights

TRAINING = FIXTURES / "squad" / "training.npz"
STEPS, BATCH, LENGTH = 50, 4, 24
CONFIG = BertConfig(seq_length=LENGTH, vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=64, max_position_embeddings=96, type_vocab_size=2, hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0)
COLUMNS = ("input_ids", "input_mask", "segment_ids", "start_positions", "end_positions")


# ---------------------------------------------------------------- against PyTorch

@pytest.fixture(scope="module")
def trained_with_pytorch(graph_mode_of_module):
    """PyTorch's numbers, our losses of the same 50 steps, and our network after them."""
    with np.load(TRAINING, allow_pickle=False) as file:
        arrays = dict(file)
    network = BertSquad(CONFIG, True)
    weights = {name.removeprefix("weight/") for name in arrays if name.startswith("weight/")}
    pooler = {"bert.bert.dense.weight", "bert.bert.dense.bias"}  # in our checkpoints, but it answers nothing
    assert {parameter.name for parameter in network.get_parameters()} == weights | pooler
    for parameter in network.get_parameters():
        if parameter.name not in pooler:
            parameter.set_data(Tensor(arrays[f"weight/{parameter.name}"]))
    schedule = WarmUpPolynomialDecay(2e-3, 0.0, warmup_steps=5, decay_steps=STEPS, power=1.0)
    step = TrainStep(network, AdamWeightDecay(network.trainable_params(), schedule, weight_decay=0.01, eps=1e-6,
                                              bias_correction=True))
    losses = []
    for number in range(STEPS):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        losses.append(float(step(*(Tensor(arrays[f"data/{column}"][rows]) for column in COLUMNS))[0].asnumpy()))
    return arrays, losses, network


def test_fifty_adamw_steps_equal_pytorch(trained_with_pytorch):
    arrays, losses, _ = trained_with_pytorch
    np.testing.assert_allclose(losses, arrays["losses"], atol=1e-4)
    assert losses[-1] < losses[0] - 0.5, "it learns something"


def test_padded_records_get_the_logits_of_pytorch_and_a_loss_without_padding(trained_with_pytorch):
    arrays, _, network = trained_with_pytorch
    evaluation = WithPrefix(BertSquadModel(CONFIG, False)).set_train(False)
    for parameter, source in zip(evaluation.get_parameters(), network.get_parameters(), strict=True):
        assert parameter.name == source.name
        parameter.set_data(Tensor(source.asnumpy()))
    inputs = [Tensor(arrays[f"padded/{column}"]) for column in COLUMNS[:3]]
    used = arrays["padded/input_mask"] == 1
    logits = [scores.asnumpy() for scores in evaluation(*inputs)]
    logs = [log_probabilities(scores, used) for scores in logits]
    for ours, name in zip(logs, ("start_logits", "end_logits"), strict=True):
        # The same up to a constant: the bias has no influence on the loss, so its path is that of rounding errors.
        np.testing.assert_allclose(ours[used], log_probabilities(arrays[f"padded/{name}"], used)[used], atol=1e-3)

    positions = np.array([[3], [14], [0], [9]], np.int32)
    loss = network.set_train(False)(*inputs, Tensor(positions), Tensor(positions))
    wanted = -np.mean([ours[np.arange(4), positions[:, 0]] for ours in logs])
    assert float(loss.asnumpy()) == pytest.approx(wanted, abs=1e-5)


def log_probabilities(logits, used):
    """Over the used tokens of each record [B,S]."""
    scores = np.where(used, logits.astype(np.float64), -np.inf)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


# ---------------------------------------------------------------- the task, end to end

@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """SQuAD files and the records made from them."""
    folder = write_toy(tmp_path_factory.mktemp("toy squad"), train=toy_squad(100), dev=toy_squad(21, 1, longest=10),
                       dev2=toy_squad(21, 2, impossible=True))
    for dataset_format in ("mindrecord", "tfrecord"):
        generate(["--vocab_file", str(folder / "vocab.txt"), "--train_file", str(folder / "train.json"),
                  "--predict_file", str(folder / "dev.json"), "--output_dir", str(folder), "--max_seq_length",
                  str(SEQ_LENGTH), "--doc_stride", "12", "--max_query_length", "8", "--dataset_format", dataset_format])
    return folder


@pytest.fixture(scope="session")
def trained(files, tmp_path_factory):
    """Train directly from the JSON files: (directory, scores)."""
    output = tmp_path_factory.mktemp("trained squad")
    return output, run_squad.main(tiny_options(files, output, epoch_num=3))


def make_task(files, **options):
    config = load_config("x", "task_squad_config.yaml", tiny_options(files, files / "unused", **options))
    return SquadTask.from_config(config, "CPU")


def evaluate(files, output, **options):
    return run_squad.main(tiny_options(files, output, do_train="false", load_finetune_checkpoint_path=output,
                                       **options))


def test_training_learns_and_leaves_everything(files, trained):
    output, scores = trained
    assert scores == {"exact_match": pytest.approx(100, abs=10), "f1": pytest.approx(100, abs=10)}
    names = {path.name for path in output.iterdir()}
    assert names >= {"squad_best.ckpt", "predictions.json", "nbest_predictions.json", "squad_config.yaml", "loss.png"}
    assert "null_odds.json" not in names
    predictions = json.loads((output / "predictions.json").read_text())
    examples = read_squad(files / "dev.json", option="x").examples
    assert list(predictions) == [example.qas_id for example in examples]
    assert score_squad_1(examples, predictions) == scores
    nbest = json.loads((output / "nbest_predictions.json").read_text())
    assert all(entries[0]["text"] == predictions[qas_id] for qas_id, entries in nbest.items())
    assert set(nbest["1-0"][0]) == {"text", "probability", "start_logit", "end_logit"}
    items = [json.loads(line) for line in (output / "squad_predictions.jsonl").read_text().splitlines()]
    contexts = read_squad(files / "dev.json", option="x").contexts
    for item, example in zip(items, examples, strict=True):
        assert (item["id"], item["place"], item["file"]) == (example.qas_id, example.place, str(files / "dev.json"))
        assert (item["question"], item["context"]) == (example.question, contexts[example.context])
        assert item["answer"] == predictions[item["id"]] == item["context"][item["start"]:item["end"]]
        assert item["gold"] == [answer.text for answer in example.answers]
    recorded = [line for line in read_metrics(output / "metrics.jsonl") if "f1" in line]
    assert {"exact_match", "f1", "step"} <= set(recorded[-1])


def test_published_names_of_the_parameters(trained):
    names = set(read_weights(trained[0] / "squad_best.ckpt"))
    assert {"bert.dense1.weight", "bert.dense1.bias", "bert.bert.bert_embedding_lookup.embedding_table"} <= names


@pytest.mark.parametrize("options", [
    {}, {"dataset_format": "tfrecord", "eval_data_file_path": "{}/dev.tf_record", "eval_batch_size": 7,
         "schema_file_path": "{}/dev_schema.json", "length_grouping": "none"}], ids=["json", "records"])
def test_evaluation_alone_gives_the_same_scores_from_any_data(files, trained, tmp_path, capsys, options):
    output, scores = trained
    given = {name: value.format(files) if isinstance(value, str) else value for name, value in options.items()}
    assert evaluate(files, output, predictions_file=tmp_path / "new" / "my_predictions.json", **given) == scores
    assert json.dumps(scores) in capsys.readouterr().out.splitlines()
    assert (tmp_path / "new" / "my_predictions.json").read_text() == (output / "predictions.json").read_text()
    assert (tmp_path / "new" / "nbest_my_predictions.json").exists()


def test_version_2_reports_answers_nulls_and_thresholds(files, trained, tmp_path, capsys):
    scores = evaluate(files, trained[0], version_2_with_negative="true", eval_json_path=files / "dev2.json",
                      predictions_file=tmp_path / "predictions.json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert lines[0] == {"exact_match": scores["exact_match"], "f1": scores["f1"]}
    assert lines[1]["total"] == 21
    assert lines[1]["NoAns_total"] == 7
    assert lines[1]["HasAns_exact"] > 50, "the network was trained on questions with answers"
    assert lines[1]["best_f1"] >= scores["f1"]
    null_odds = json.loads((tmp_path / "null_odds.json").read_text())
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert {qas_id for qas_id, odds in null_odds.items() if odds > 0} == {
        qas_id for qas_id, text in predictions.items() if not text}


def test_records_of_all_formats_are_the_same(files):
    tasks = [make_task(files, **options) for options in (
        {}, {"train_data_file_path": files / "train.mindrecord", "eval_data_file_path": files / "dev.mindrecord"},
        {"train_data_file_path": files / "train.tf_record", "eval_data_file_path": files / "dev.tf_record",
         "dataset_format": "tfrecord"})]
    for name in ("train_records", "eval_records"):
        all_records = [getattr(task, name)() for task in tasks]
        first = all_records[0].read(np.arange(all_records[0].num_rows))
        for records in all_records[1:]:
            assert records.num_rows == all_records[0].num_rows > 0
            assert list(records.columns) == list(all_records[0].columns)
            other = records.read(np.arange(records.num_rows))
            assert all((other[column] == values).all() for column, values in first.items())


def test_json_as_eval_data_needs_no_second_option(files):
    task = make_task(files, eval_json_path="", eval_data_file_path=files / "dev.json")
    assert task.eval_records().num_rows > 21


def test_half_a_surrogate_pair_can_be_written(files, tmp_path):
    task = make_task(files)
    example = task.features.examples[0]
    answer = QuestionAnswers("\ud83d 中", [], None, 0.0)
    task.features.examples[:] = [example]
    task._score([answer]).write_predictions(tmp_path / "predictions.json")
    assert json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8")) == {example.qas_id: "\ud83d 中"}
    assert "中" in (tmp_path / "predictions.json").read_text(encoding="utf-8")
    item = json.loads((tmp_path / "squad_predictions.jsonl").read_text(encoding="utf-8"))
    assert (item["id"], item["answer"], item["start"]) == (example.qas_id, "", None)


@pytest.mark.parametrize("options", [{}, {"assessment_method": "CMRC"}, {"version_2_with_negative": "true"}])
def test_report_shows_every_question_with_its_part_of_the_score(files, options):
    task = make_task(files, **options)
    answers = [QuestionAnswers("", [], None, 0.0) for _ in task.features.examples]
    for number in (0, 2):  # right, and half right
        start = task.features.examples[number].answers[0].start
        text = task.features.texts[task.features.examples[number].context][start - number:].split(".")[0]
        best = Candidate(text, start - number, start - number + len(text), 1.0, 1.0, 0.75)
        answers[number] = QuestionAnswers(text, [best], best, 0.0)
    evaluation = task._score(answers)
    items = list(evaluation.items())
    assert np.mean([item["f1"] for item in items]) == pytest.approx(evaluation.results["f1"])
    assert items[0]["f1"] == 100 and (items[0]["answer"], items[0]["score"]) == (answers[0].text, 0.75)
    for item in items:
        for text, start in zip(item["gold"], item["gold_starts"], strict=True):
            assert item["context"][start:start + len(text)] == text
    [kinds] = evaluation.breakdowns
    assert [(kind, count) for kind, count, _ in kinds.rows] == [("which", len(items))]
    assert kinds.rows[0][2] == pytest.approx(evaluation.results["f1"])


MISTAKES = {
    "no data": ({"eval_json_path": ""}, "eval_json_path is not set; give the data to evaluate on"),
    "records without texts": ({"eval_json_path": "", "eval_data_file_path": "{}/dev.mindrecord"},
                              r"eval_json_path is not set; besides the records, evaluation needs the SQuAD file"),
    "no vocabulary": ({"vocab_file_path": ""}, "vocab_file_path is not set"),
    "a vocabulary that is too large": ({"bert_net_cfg__vocab_size": 9}, "has 25 tokens, but vocab_size is 9"),
    "records of another file": ({"eval_data_file_path": "{}/train.mindrecord"},
                                r"train.mindrecord has 100 records, but .*dev.json gives \d+ with doc_stride 12"),
    "no such file": ({"train_data_file_path": "{}/absent.json"}, "train_data_file_path: cannot read .*absent.json"),
    "a file of 2.0": ({"train_data_file_path": "{}/dev2.json"}, r"has no answer; if this is a file of SQuAD 2.0"),
    "records for another length": ({"train_data_file_path": "{}/train.mindrecord", "bert_net_cfg__seq_length": 32},
                                   "seq_length is 32, but the records of .*train.mindrecord have 40 tokens"),
    "no room": ({"max_query_length": 37}, "max_seq_length is 40, which a question of max_query_length 37"),
    "CMRC without answers": ({"assessment_method": "cmrc", "version_2_with_negative": "true"},
                             "assessment_method: CMRC knows no questions without an answer"),
    "three scores": ({"num_class": 3}, "--num_class: expected one of 2; found .3"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gives_one_line(files, tmp_path, mistake):
    options, message = MISTAKES[mistake]
    given = {name: value.format(files) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(UserError, match=message) as raised:
        run_squad.main(tiny_options(files, tmp_path / "out", **given))
    assert "\n" not in str(raised.value)


def test_records_of_other_texts_are_noticed(files, trained):
    """As many records as the JSON file gives, but others."""
    content = json.loads((files / "dev.json").read_text())
    question = content["data"][0]["paragraphs"][3]["qas"][0]
    question["question"] = question["question"].replace("colour", "and")
    (files / "changed.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"dev.mindrecord: record \d+ is not what .*changed.json: data\[0\]"
                                        r"\.paragraphs\[3\]\.qas\[0\] gives with doc_stride 12"):
        evaluate(files, trained[0], eval_json_path=files / "changed.json",
                 eval_data_file_path=files / "dev.mindrecord")


def test_all_answers_wrong_is_an_error_of_the_file(files, tmp_path):
    content = toy_squad(3)
    for paragraph in content["data"][0]["paragraphs"]:
        paragraph["qas"][0]["answers"][0]["text"] = "purple"
    folder = write_toy(tmp_path, train=content, dev=content)
    with pytest.raises(UserError, match="train_data_file_path: .*train.json gives no record"):
        run_squad.main(tiny_options(folder, tmp_path / "out"))


# ---------------------------------------------------------------- several processes

@pytest.mark.slow
def test_two_processes_at_half_the_batch_equal_one(files, tmp_path):
    """By the launcher of the documentation; losses and weights of every step."""
    options = {"do_eval": "false", "train_steps": 6, "save_checkpoint_steps": 1, "save_checkpoint_num": 10}
    one, two = tmp_path / "one", tmp_path / "two"
    run_squad.main(tiny_options(files, one, train_batch_size=8, **options))
    done = subprocess.run(["bash", REPOSITORY / "scripts/run_squad_gpu_distribute.sh", "2", *tiny_options(
        files, two, train_batch_size=4, **options), "--foreground"], cwd=tmp_path, timeout=600, text=True,
        env=os.environ | {"PYTHON": sys.executable}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "step: 5, outputs are" in done.stdout
    assert done.stdout == (tmp_path / "LOG0/squad_log.txt").read_text()
    assert "step: 5, outputs are" not in (tmp_path / "LOG1/squad_log.txt").read_text(), "only rank 0 reports"
    losses = [[line["loss"] for line in read_metrics(folder / "metrics.jsonl")] for folder in (one, two)]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-5)
    assert len(losses[0]) == 6
    for step in range(1, 7):
        path, = one.glob(f"squad-*_{step}.ckpt")
        ours, theirs = read_weights(path), read_weights(two / path.name)
        for name, values in ours.items():
            if name != "bert.dense1.bias":  # of no influence on the loss: its path is that of rounding errors
                np.testing.assert_allclose(theirs[name], values, atol=2e-5, err_msg=f"{name} after step {step}")


def test_help_names_every_documented_option(capsys):
    with pytest.raises(SystemExit):
        run_squad.main(["--help"])
    assert set(re.findall(r"--(\w+)", capsys.readouterr().out)) >= {
        "device_target", "do_train", "do_eval", "device_id", "epoch_num", "num_class", "vocab_file_path",
        "eval_json_path", "train_data_shuffle", "eval_data_shuffle", "save_finetune_checkpoint_path",
        "load_pretrain_checkpoint_path", "load_finetune_checkpoint_path", "train_data_file_path",
        "eval_data_file_path", "schema_file_path", "dataset_format"}
