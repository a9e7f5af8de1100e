"""Prediction and export of a tiny classifier, from checkpoint to answers."""

import io
import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import yaml
from mindspore import Tensor, nn
from pages import Page
from toy_finetuning import SEQ_LENGTH, VOCAB_SIZE, tiny_options, toy_rows

import export
import predict
import quick_start
import run_classifier
import run_eval_onnx
from src import load_predictor
from src.assessment_method import softmax
from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig
from src.errors import UserError
from src.inference.texts import read_items
from src.tasks.prediction import batches_by_length
from src.weights import save_weights

# The toy's class c has the words w(10 c + 10) to w(10 c + 17).
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, VOCAB_SIZE))]
TEXTS = ["w10 w11 w12", "w31 w37 w30 w33 w33 w35 w36", "w22 w20", "w10 " * 30]
LABELS = ["zero", "two", "one", "zero"]


def write_table(path, rows):
    """The texts of toy rows with the names of their classes."""
    lines = [(" ".join(VOCABULARY[i] for i in ids[1:mask.sum() - 1]), ["zero", "one", "two"][label[0]])
             for ids, mask, label in zip(rows["input_ids"], rows["input_mask"], rows["label_ids"], strict=True)]
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Options for a trained classifier, its vocabulary and its labels."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "labels.txt").write_text("zero\none\ntwo\n", encoding="utf-8")
    write_table(folder / "train.csv", toy_rows(60))
    write_table(folder / "dev.csv", toy_rows(21, seed=1))
    run_classifier.main(tiny_options(folder, folder / "out", epoch_num=8, label_file_path=folder / "labels.txt",
                                     vocab_file_path=folder / "vocab.txt", data_cache_dir=folder / "cache",
                                     train_data_file_path=folder / "train.csv",
                                     eval_data_file_path=folder / "dev.csv"))
    return ["--config_path", str(folder / "out" / "classifier_config.yaml"),
            "--load_finetune_checkpoint_path", str(folder / "out")]


def results(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_texts_of_the_command_line(model, capsys):
    predict.main([*model, *(part for text in TEXTS for part in ("--text", text))])
    found = results(capsys)
    assert [item["label"] for item in found] == LABELS
    assert all(0.4 < item["probability"] <= 1 for item in found)
    assert list(found[0]) == ["text", "label", "label_id", "probability"]


def test_the_saved_configuration_names_the_table_and_not_what_was_made_of_it(model, capsys):
    saved = yaml.safe_load(Path(model[1]).read_text())
    assert Path(saved["eval_data_file_path"]).name == "dev.csv"
    scores = run_classifier.main([*model, "--do_train", "false"])
    best = json.loads((Path(model[-1]) / "classifier_best.about.json").read_text())["results"]
    assert scores["accuracy"] == pytest.approx(best["accuracy"])


def test_file_in_file_out(model, tmp_path):
    (tmp_path / "in.txt").write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    output = tmp_path / "new" / "out.jsonl"
    predict.main([*model, "--input_file", str(tmp_path / "in.txt"), "--output_file", str(output),
                  "--eval_batch_size", "3"])
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(item["text"], item["label"]) for item in found[::2]] == list(zip(TEXTS, LABELS, strict=True))
    assert found[1::2] == [{"text": "", "label": None}] * (len(TEXTS) - 1)  # the blank lines


def test_a_page_of_predictions(model, tmp_path, capsys):
    predict.main([*model, "--text", TEXTS[0], "--text", "w10 <b>", "--html", str(tmp_path / "new" / "page.html")])
    content = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert [TEXTS[0] in Page(content).text, "w10 <b>" in Page(content).text, "zero" in Page(content).text] == [True] * 3
    assert len(results(capsys)) == 2  # which are printed as ever
    with pytest.raises(UserError, match=f"--html: {tmp_path} is a directory"):
        predict.main([*model, "--text", "w10", "--html", str(tmp_path)])


def test_standard_input_and_json(model, capsys, monkeypatch):
    lines = [json.dumps({"id": number, "sentence": text}) for number, text in enumerate(TEXTS)]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    predict.main([*model, "--input_file", "-"])
    assert [(item["id"], item["label"]) for item in results(capsys)] == list(enumerate(LABELS))


@pytest.mark.parametrize(("bad", "message"), [
    (b'{"text": "\\ud800"}', r"line 4: \\ud800 is half of a surrogate pair"),
    (b'{"text": "w\xe9"}', "line 4: byte 0xe9 is not UTF-8"),
    (b'{"txt": "w10"}', 'line 4: found .*, expected an object with "text"'),
])
@pytest.mark.parametrize("source", ["-", "in.jsonl"])
def test_a_bad_line_is_named_and_what_stands_before_it_is_predicted(model, tmp_path, monkeypatch, source, bad, message):
    lines = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS[:3]) + bad + b'\n{"text": "w10"}\n'
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_bytes(lines)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    with pytest.raises(UserError, match=rf"{message}.*; the 3 predictions for what stands before it were written"):
        predict.main([*model, "--input_file", source, "--output_file", "out.jsonl"])
    found = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(item["text"], item["label"]) for item in found] == list(zip(TEXTS[:3], LABELS[:3], strict=True))


def test_a_mistake_at_the_start_leaves_the_output_of_before(model, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"txt": "w10"}\n', encoding="utf-8")
    (tmp_path / "out.jsonl").write_text("kept", encoding="utf-8")
    with pytest.raises(UserError, match='in.jsonl, line 1: found .*, expected an object with "text"'):
        predict.main([*model, "--input_file", str(tmp_path / "in.jsonl"), "--output_file", str(tmp_path / "out.jsonl")])
    assert (tmp_path / "out.jsonl").read_text() == "kept"


@pytest.mark.parametrize("command", [export.main, run_eval_onnx.main])
def test_help_without_and_with_a_task(model, capsys, command):
    for options, expected in (([], "--config_path FILE --help lists them"), (model[:2], "--eval_batch_size")):
        with pytest.raises(SystemExit) as stop:
            command([*options, "--help"])
        assert stop.value.code == 0 and expected in capsys.readouterr().out


def test_quick_start_classifies_its_headlines(model, capsys):
    quick_start.main(["--load_finetune_checkpoint_path", model[-1],
                      "--vocab_file_path", str(Path(model[-1]).parent / "vocab.txt")])
    found = results(capsys)
    assert [item["text"] for item in found] == list(quick_start.HEADLINES)
    assert {item["label"] for item in found} <= {"zero", "one", "two"}


@pytest.mark.parametrize(("options", "message"), [
    (["--text", "w10", "--vocab_file_path", ""], "vocab_file_path is not set"),
    (["--text", "w10", "--load_finetune_checkpoint_path", ""], "load_finetune_checkpoint_path is not set"),
    ([], "nothing to predict"),
    (["--input_file", "absent"], "--input_file: cannot read absent"),
    (["--text", "a", "--num_class", "2"], "names 3 classes, but num_class is 2"),
])
def test_mistakes(model, options, message):
    with pytest.raises(UserError, match=message) as caught:
        predict.main([*model, *options])
    assert "\n" not in str(caught.value)


def test_configuration_must_name_a_task(tmp_path):
    (tmp_path / "other.yaml").write_text("description: run_other\n", encoding="utf-8")
    with pytest.raises(UserError, match="description: found \"run_other\", expected one of run_classifier"):
        predict.main(["--config_path", str(tmp_path / "other.yaml"), "--text", "a"])
    with pytest.raises(UserError, match="--config_path is not set"):
        predict.main(["--text", "a"])


def test_batches_by_length_hold_every_text_once():
    lengths = np.random.default_rng(0).integers(1, 65, 50)
    mask = (np.arange(64) < lengths[:, None]).astype(np.int32)
    columns = {"input_ids": mask * np.arange(1, 51, dtype=np.int32)[:, None], "input_mask": mask}
    seen, shapes = [], set()
    for (ids, cut), numbers in batches_by_length(columns, 8):
        assert (ids[:len(numbers), 0] == numbers + 1).all()
        assert (cut.sum(axis=1)[:len(numbers)] == lengths[numbers]).all()
        shapes.add(ids.shape)
        seen += numbers.tolist()
    assert sorted(seen) == list(range(50))
    assert shapes == {(8, 16), (8, 32), (8, 64)}


def test_lines_of_the_wrong_kind_are_named(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text('{"text": "a"}\nb\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"in.txt, line 2, column 1: no JSON .*; expected a JSON object"):
        list(read_items(str(path), ("text",)))
    path.write_text("a\nb\tc\td\n", encoding="utf-8")
    items = read_items(str(path), ("text",))  # no pairs there
    assert [item.values for item in items] == [{"text": "a"}, {"text": "b\tc\td"}]
    with pytest.raises(UserError, match=r"in.txt, line 2: 3 fields between tabs, expected at most 2 \(text, pair\)"):
        list(read_items(str(path), ("text", "pair")))


def values_of(path, text, fields=("text", "text_pair"), **given):
    path.write_text(text, encoding="utf-8")
    return [item.values for item in read_items(str(path), fields, given)]


def test_columns_of_tables(tmp_path):
    csv = tmp_path / "in.csv"
    assert values_of(csv, '\ufefflabel,text\n1,"a, b"\n2,c\n') == [{"text": "a, b"}, {"text": "c"}]
    assert values_of(csv, "id,Sentence1,sentence2\n1,a,b\n") == [{"text": "a", "text_pair": "b"}]
    assert values_of(csv, "title,label\nx,1\n", text_column="label") == [{"text": "1"}]
    assert values_of(csv, "context,id,question\nc,1,q\n", ("question", "context")) == [
        {"question": "q", "context": "c"}]
    with pytest.raises(UserError, match=r"in.csv: which column holds the text\? The columns are 'I like it'; name it"):
        values_of(csv, "I like it\nAnd this\n")
    with pytest.raises(UserError, match="text_column: .*in.csv has no column 'b'"):
        values_of(csv, "text\nx\n", text_column="b")
    tsv = tmp_path / "in.tsv"
    assert values_of(tsv, "sentence\tlabel\na\t1\n") == [{"text": "a"}]
    assert values_of(tsv, "a sentence\tand another\nc\td\n") == [  # as plain lines always were
        {"text": "a sentence", "text_pair": "and another"}, {"text": "c", "text_pair": "d"}]
    assert values_of(tmp_path / "in.jsonl", '{"review": "a", "id": 1}\n', text_column="review") == [
        {"review": "a", "id": 1, "text": "a"}]


@pytest.mark.parametrize(("name", "text"), [
    ("in.txt", "a\n\n  \nb\n\n"), ("in.jsonl", '{"text": "a"}\n\n \n{"text": "b"}\n\n'),
    ("in.csv", 'text,id\na,1\n\n" ",2\nb,3\n,\n'), ("in.tsv", "text\tid\na\t1\n\n \t2\nb\t3\n\t\n")])
def test_every_line_keeps_its_place(tmp_path, name, text):
    assert values_of(tmp_path / name, text) == [{"text": "a"}, None, None, {"text": "b"}, None]


def test_blank_lines_have_results_without_a_prediction(model, tmp_path, capsys):
    (tmp_path / "in.csv").write_text(f"text,label\n{TEXTS[0]},x\n\n{TEXTS[1]},text\n,y\n", encoding="utf-8")
    predict.main([*model, "--input_file", str(tmp_path / "in.csv")])
    first, blank, second, last = results(capsys)
    assert blank == last == {"text": "", "label": None}
    assert [(item["text"], item["label"]) for item in (first, second)] == list(zip(TEXTS[:2], LABELS[:2], strict=True))


# ---------------------------------------------------------------- exported models, masks

def flipped(content: bytes) -> bytes:
    """Content with one other bit, far from its ends: in a weight."""
    place = 2 * len(content) // 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1:]


@pytest.mark.parametrize(("options", "name"), [
    (["--export_batch_size", "0"], "any.mindir"),
    (["--export_batch_size", "2", "--export_target", "ascend"], "two.mindir"),
    (["--file_format", "ONNX"], "bert.onnx")])
def test_an_exported_model_predicts_the_same(model, tmp_path, capsys, options, name):
    export.main([*model, "--export_ckpt_file", model[-1], "--export_file_name", str(tmp_path / name), *options])
    capsys.readouterr()
    texts = [part for text in TEXTS[:3] for part in ("--text", text)]
    predict.main([*model, *texts])
    wanted = results(capsys)
    predict.main([*model, *texts, "--model", str(tmp_path / name), "--load_finetune_checkpoint_path", ""])
    found = results(capsys)
    assert [item["label"] for item in found] == [item["label"] for item in wanted] == LABELS[:3]
    np.testing.assert_allclose([item["probability"] for item in found], [item["probability"] for item in wanted],
                               atol=1e-5)
    content, about = (tmp_path / name).read_bytes(), (tmp_path / name).with_suffix(
        ".onnx.json" if name.endswith("onnx") else ".json")
    path = tmp_path / name
    without_checksum = json.loads(about.read_bytes())
    del without_checksum["crc32"]
    for damaged, described, message in (
            (None, about.read_bytes(), "there is no"),
            (content[:-100], json.dumps(without_checksum).encode(), "damaged, cut off"),
            (flipped(content), about.read_bytes(), f"{name} is damaged: {name} does not match its checksum")):
        path.unlink()
        if damaged:
            path.write_bytes(damaged)
        about.write_bytes(described)
        with pytest.raises(UserError, match=message):
            predict.main([*model, *texts, "--model", str(path)])
        path.touch()


def test_a_model_of_other_classes_is_refused(model, tmp_path):
    export.main([*model, "--export_ckpt_file", model[-1], "--export_file_name", str(tmp_path / "bert")])
    about = json.loads((tmp_path / "bert.json").read_text(encoding="utf-8"))
    for change, message in (({"num_class": 5}, "has 5 classes, but the configuration has 3"),
                            ({"task": "run_ner"}, "is of run_ner, but the configuration is of run_classifier"),
                            ({"input_shape": [1, 8]}, "has sequences of 8 tokens, but seq_length is 16")):
        (tmp_path / "bert.json").write_text(json.dumps(about | change), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            predict.main([*model, "--text", "w10", "--model", str(tmp_path / "bert.mindir")])
    with pytest.raises(UserError, match="is neither .onnx nor .mindir"):
        predict.main([*model, "--text", "w10", "--model", "bert.ckpt"])


def test_words_for_masks(model, tmp_path, capsys):
    sizes = {"seq_length": 16, "vocab_size": VOCAB_SIZE, "hidden_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
    network = BertNetworkWithLoss(BertConfig(type_vocab_size=2, **sizes), is_training=True)
    initialize_parameters(network, 0.5, seed=1)
    save_weights(network, tmp_path / "pretrained.ckpt")
    options = ["--description", "run_pretrain", "--device_target", "CPU",
               "--load_checkpoint_path", str(tmp_path / "pretrained.ckpt"),
               "--vocab_file_path", str(Path(model[-1]).parent / "vocab.txt"),
               *(part for key, value in sizes.items() for part in (f"--base_net_cfg.{key}", str(value)))]
    predict.main([*options, "--text", "w10 [MASK] w12 [MASK]"])
    (found,) = results(capsys)
    assert [len(guesses) for guesses in found["masks"]] == [5, 5]
    assert all(guess["token"] in VOCABULARY for guesses in found["masks"] for guess in guesses)
    with pytest.raises(UserError, match=r"no \[MASK\] in the text"):
        predict.main([*options, "--text", "w10"])
    with pytest.raises(UserError, match="--model: words for"):
        predict.main([*options, "--text", "[MASK]", "--model", "x.onnx"])


# ---------------------------------------------------------------- export

def test_exported_model_gives_what_the_network_gives(model, tmp_path, capsys):
    export.main([*model, "--export_ckpt_file", model[-1], "--export_file_name", str(tmp_path / "new" / "bert.mindir"),
                 "--export_batch_size", "0"])
    folder = tmp_path / "new"
    assert {path.name for path in folder.iterdir()} == {"bert.mindir", "bert.json", "bert.vocab.txt", "bert.labels.txt"}
    assert {oct(path.stat().st_mode & 0o444) for path in folder.iterdir()} == {"0o444"}
    assert folder.stat().st_mode & 0o111 == 0o111
    about = json.loads((folder / "bert.json").read_text(encoding="utf-8"))
    assert about["task"] == "run_classifier"
    assert about["labels"] == ["zero", "one", "two"]
    assert about["input_shape"] == [None, SEQ_LENGTH]

    graph = nn.GraphCell(ms.load(str(folder / "bert.mindir")))
    capsys.readouterr()
    predict.main([*model, *(part for text in TEXTS for part in ("--text", text))])
    wanted = results(capsys)
    ids = np.zeros((4, SEQ_LENGTH), np.int32)
    for row, text in zip(ids, TEXTS, strict=True):
        tokens = ["[CLS]", *text.split()[:SEQ_LENGTH - 2], "[SEP]"]
        row[:len(tokens)] = [VOCABULARY.index(token) for token in tokens]
    for rows in (slice(0, 4), slice(1, 3)):  # any batch size
        logits = graph(Tensor(ids[rows]), Tensor((ids[rows] > 0).astype(np.int32)), Tensor(ids[rows] * 0)).asnumpy()
        np.testing.assert_allclose(softmax(logits).max(axis=1), [item["probability"] for item in wanted[rows]],
                                   atol=2e-6)


@pytest.fixture(scope="module")
def moved(model, tmp_path_factory):
    """The folder of the classifier at another place, without what it was made from."""
    return shutil.copytree(model[-1], tmp_path_factory.mktemp("elsewhere") / "moved")


def test_a_folder_that_was_moved_predicts_exports_and_evaluates(model, moved, tmp_path, capsys):
    predict.main([*model, "--text", TEXTS[1]])
    wanted = results(capsys)
    predict.main(["--model", str(moved), "--device_target", "CPU", "--text", TEXTS[1]])
    assert results(capsys) == wanted
    for options in ([], ["--file_format", "ONNX"]):
        export.main(["--export_ckpt_file", str(moved), "--device_target", "CPU", "--export_file_name",
                     str(tmp_path / "bert"), *options])
    for exported in ("bert.mindir", "bert.onnx"):
        [found] = load_predictor(tmp_path / exported, device_target="CPU")(TEXTS[1])
        assert found._asdict() | {"text_pair": None} == {**wanted[0], "text_pair": None} | {
            "probability": pytest.approx(wanted[0]["probability"], abs=2e-6)}
    (tmp_path / "bert.vocab.txt").write_text("[PAD]\n")
    with pytest.raises(UserError, match="bert.vocab.txt does not match its checksum in .*bert.onnx.json"):
        load_predictor(tmp_path / "bert.onnx", device_target="CPU")


def test_the_card_of_a_training(moved):
    text = (moved / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    scores = {metric["type"]: metric["value"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    best = json.loads((moved / "classifier_best.about.json").read_text())
    assert scores["accuracy"] == pytest.approx(best["results"]["accuracy"])
    assert "| optimizer | " in text and "![Curve of the training](loss.png)" in text


@pytest.mark.parametrize(("options", "message"), [
    (["--export_ckpt_file", ""], "export_ckpt_file is not set"),
    (["--file_format", "AIR"], "AIR can be exported on Ascend only"),
    (["--export_ckpt_file", "absent.ckpt"], "there is no checkpoint absent.ckpt"),
])
def test_export_mistakes(model, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        export.main([*model, "--export_ckpt_file", model[-1], "--export_file_name", str(tmp_path / "bert"), *options])
    assert not list(tmp_path.iterdir())


def test_outputs_are_checked_before_anything_is_loaded(tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("began to work")

    monkeypatch.setattr(predict, "create_predictor", fail)
    with pytest.raises(UserError, match=f"--output_file: {tmp_path} is a directory; give the name of a file in it"):
        predict.main(["--config_path", "task_classifier_cpu_config.yaml", "--text", "a",
                      "--output_file", str(tmp_path)])
