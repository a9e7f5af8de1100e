"""Questions about new texts, and the exported network."""

import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from toy_squad import SEQ_LENGTH, VOCABULARY, tiny_options, toy_squad, write_toy

import export
import predict
import run_squad
from src.errors import UserError
from src.inference.predictor import create_predictor
from src.tasks.prediction import InferenceModel
from src.tasks.registry import load_task_config
from src.tasks.squad.answers import AnswerOptions

SHORT = "The ship is blue."
LONG = "The cat has the dog. " * 40 + "The Car is  Brown." + " The ship has the tree." * 10


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Options for a trained network and its vocabulary."""
    folder = write_toy(tmp_path_factory.mktemp("squad model"), train=toy_squad(100), dev=toy_squad(10, 1))
    run_squad.main(tiny_options(folder, folder / "out", epoch_num=3))
    return ["--config_path", str(folder / "out" / "squad_config.yaml"), "--load_finetune_checkpoint_path",
            str(folder / "out")]


@pytest.fixture(scope="module")
def predictor(model):
    return create_predictor(load_task_config("x", model))


def results(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_answers_on_the_command_line_have_score_and_span(model, capsys):
    predict.main([*model, "--text", f"Which colour has the ship?\t{SHORT}", "--text", f"Which colour?\t{LONG}"])
    short, long = results(capsys)
    assert list(short) == ["question", "context", "answer", "score", "start", "end"]
    assert (short["answer"], short["start"], short["end"]) == ("blue", 12, 16)
    assert (long["answer"], long["context"][long["start"]:long["end"]]) == ("Brown", "Brown")
    assert 0.5 < short["score"] <= 1


def test_questions_from_a_file_in_its_order(model, tmp_path):
    items = [{"id": number, "question": f"Which colour has the {thing}?", "context": context}
             for number, (thing, context) in enumerate([("ship", SHORT), ("car", LONG), ("tree", SHORT), ("dog", "")])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    predict.main([*model, "--input_file", str(tmp_path / "in.jsonl"), "--output_file", str(tmp_path / "out.jsonl"),
                  "--eval_batch_size", "8"])
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(item["id"], item["answer"]) for item in found] == [(0, "blue"), (1, "Brown"), (2, "blue"), (3, "")]
    assert (found[3]["start"], found[3]["end"], found[3]["score"]) == (None, None, 0.0)


def test_item_without_a_context_is_named(predictor):
    with pytest.raises(UserError, match=r"found \{'question': 'Which'\}, expected an object with .question. and"):
        predictor.predict([{"question": "Which"}])


def test_the_only_candidate_may_be_no_answer_and_the_answer_be_another(predictor, monkeypatch):
    """One candidate, "no answer", whose score exceeds that of the best answer by less than the threshold."""
    options = AnswerOptions(n_best_size=1, version_2_with_negative=True, null_score_diff_threshold=1e6)
    monkeypatch.setattr(predictor, "answer_options", options)
    monkeypatch.setattr(predictor, "model", InferenceModel(_prefer_cls))
    (found,) = predictor.predict([{"question": "Which ship?", "context": SHORT}])
    assert found["answer"] == SHORT[found["start"]:found["end"]] != ""
    assert found["score"] == 0.0


def _prefer_cls(ids, mask, segments):
    logits = Tensor(np.eye(1, ids.shape[1], dtype=np.float32).repeat(len(ids), axis=0))
    return logits, logits


def test_exported_network_gives_the_same_logits_for_any_batch(model, predictor, tmp_path):
    export.main([*model, "--export_ckpt_file", model[-1], "--export_file_name", str(tmp_path / "squad"),
                 "--export_batch_size", "0"])
    about = json.loads((tmp_path / "squad.json").read_text(encoding="utf-8"))
    assert about["outputs"] == ["start_logits", "end_logits"]
    assert about["input_shape"] == [None, SEQ_LENGTH]
    graph = nn.GraphCell(ms.load(str(tmp_path / "squad.mindir")))
    ids = np.random.default_rng(0).integers(5, len(VOCABULARY), (3, SEQ_LENGTH)).astype(np.int32)
    segments = np.broadcast_to(np.arange(SEQ_LENGTH) > 8, ids.shape).astype(np.int32)
    for rows in (slice(0, 3), slice(1, 2)):
        inputs = [Tensor(np.ascontiguousarray(values[rows])) for values in (ids, np.ones_like(ids), segments)]
        for ours, theirs in zip(predictor.model.network(*inputs), graph(*inputs), strict=True):
            np.testing.assert_allclose(theirs.asnumpy(), ours.asnumpy(), atol=1e-6)


def test_exported_models_give_the_same_answers(model, tmp_path):
    items = [{"question": "Which ship?", "context": "The ship is blue. " * count} for count in (1, 9)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    files = ["--input_file", str(tmp_path / "in.jsonl"), "--output_file", str(tmp_path / "out.jsonl")]

    def answers(*options):
        predict.main([*model, *files, *options])
        found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
        return [(item["answer"], item["start"], pytest.approx(item["score"], abs=1e-4)) for item in found]

    wanted = answers()
    for name, options in (("bert.mindir", []), ("bert.onnx", ["--file_format", "ONNX"])):
        export.main([*model, "--export_ckpt_file", model[-1], "--export_file_name", str(tmp_path / name), *options])
        assert answers("--model", str(tmp_path / name)) == wanted
