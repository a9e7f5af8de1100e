"""Evaluation from the command line, against a count over single records."""

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from toy_pretraining import SEQ_LENGTH, TINY, start_script, tiny_options, toy_batch, write_records

import pretrain_eval
from src.bert_for_pre_training import BertPretrainEval, initialize_parameters
from src.bert_model import BertConfig
from src.dataset import PRETRAIN_TYPES
from src.errors import UserError

NUM_ROWS = 37  # no multiple of any batch size below


@pytest.fixture(scope="module")
def config() -> BertConfig:
    sizes = {key.removeprefix("base_net_cfg."): value for key, value in TINY.items() if key.startswith("base_net_cfg.")}
    return BertConfig(**sizes, type_vocab_size=2)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("eval") / "records", toy_batch(NUM_ROWS, seed=4))


@pytest.fixture(scope="module")
def network(graph_mode_of_module: None, config: BertConfig) -> BertPretrainEval:
    """A network of large random weights, which answers differently everywhere, and prefers words that occur."""
    network = BertPretrainEval(config)
    initialize_parameters(network, 0.2, seed=0)
    occurring = np.isin(np.arange(config.vocab_size), toy_batch(NUM_ROWS, seed=4)["masked_lm_ids"])
    network.bert.cls1.output_bias.set_data(Tensor(np.where(occurring, 9, 0).astype(np.float32)))
    network.set_train(False)
    return network


@pytest.fixture(scope="module")
def checkpoint(network: BertPretrainEval, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "eval.ckpt"
    ms.save_checkpoint(network, str(path))
    return path


@pytest.fixture(scope="module")
def counted(network: BertPretrainEval) -> dict[str, float]:
    """The scores, counted record by record."""
    batch = {name: np.asarray(values, PRETRAIN_TYPES[name]) for name, values in toy_batch(NUM_ROWS, seed=4).items()}
    masked, right, loss, answers, right_pairs, pair_loss = 0, 0, 0.0, {}, 0, 0.0
    for row in range(NUM_ROWS):
        record = {name: values[row:row + 1] for name, values in batch.items()}
        words, classes, word_losses, class_losses = (output.asnumpy()[0] for output in network(
            *(Tensor(record[name]) for name in list(PRETRAIN_TYPES)[:6])))
        right_pairs += int(classes == record["next_sentence_labels"][0, 0])
        pair_loss += float(class_losses)
        for place, weight in enumerate(record["masked_lm_weights"][0]):
            if weight:
                word = int(record["masked_lm_ids"][0, place])
                answers[word] = answers.get(word, 0) + 1
                masked += 1
                right += int(words[place] == word)
                loss += float(word_losses[place])
    return {"masked_lm_accuracy": right / masked, "masked_lm_loss": loss / masked,
            "most_frequent_word_accuracy": max(answers.values()) / masked,
            "next_sentence_accuracy": right_pairs / NUM_ROWS, "next_sentence_loss": pair_loss / NUM_ROWS,
            "right": right, "masked": masked, "right_pairs": right_pairs}


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_every_record_counts_once_whatever_the_batch_size(
        data_dir: Path, checkpoint: Path, counted: dict, batch_size: int, capsys: pytest.CaptureFixture) -> None:
    scores = pretrain_eval.main(tiny_options(eval_data_dir=data_dir, eval_ckpt=checkpoint, batch_size=batch_size))
    assert scores == pytest.approx({name: counted[name] for name in scores}, abs=1e-5)
    assert 0 < scores["masked_lm_accuracy"] < 1
    printed = capsys.readouterr().out
    assert f"masked_lm: acc_num {counted['right']} , total_num {counted['masked']}, accuracy 0." in printed
    assert f"next_sentence: acc_num {counted['right_pairs']} , total_num {NUM_ROWS}, accuracy 0." in printed


def test_a_directory_without_a_checkpoint_is_a_mistake(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no complete checkpoint"):
        pretrain_eval.main(tiny_options(eval_data_dir=data_dir, eval_ckpt=tmp_path))


def test_eval_samples_limits_the_records(data_dir: Path, checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    pretrain_eval.main(tiny_options(eval_data_dir=data_dir, eval_ckpt=checkpoint, batch_size=8, eval_samples=5))
    assert "total_num 5, " in capsys.readouterr().out


def test_command_reports_what_it_loaded_and_prints_two_lines(data_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    process = start_script("pretrain_eval.py", tiny_options(eval_data_dir=data_dir, eval_ckpt=checkpoint), tmp_path)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    lines = printed.splitlines()
    assert re.fullmatch(rf"loaded (\d+) of the network's \1 parameters from {checkpoint}", lines[0])
    assert re.fullmatch(r"masked_lm: acc_num \d+ , total_num \d+, accuracy \d\.\d{6}, loss \d+\.\d{4} "
                        r"\(always the most frequent word: accuracy \d\.\d{6}\)", lines[1])
    assert re.fullmatch(r"next_sentence: acc_num \d+ , total_num \d+, accuracy \d\.\d{6}, loss \d+\.\d{4}", lines[2])
    assert len(lines) == 3


@pytest.mark.parametrize(("options", "message"), [
    ({"eval_ckpt": ""}, "eval_ckpt is not set; give the checkpoint to evaluate"),
    ({"eval_ckpt": "/nowhere.ckpt"}, "there is no checkpoint /nowhere.ckpt"),
    ({"eval_data_dir": ""}, "eval_data_dir is not set"),
    ({"eval_data_dir": "/nowhere"}, "eval_data_dir: there is no /nowhere"),
    ({"base_net_cfg__seq_length": 32}, f"seq_length is 32, but the records of .* have {SEQ_LENGTH} tokens"),
    ({"base_net_cfg__hidden_size": 32}, "eval.ckpt is of a network of another size"),
    ({"base_net_cfg__num_hidden_layers": 2}, "eval_ckpt: .* has no fitting weights for 16 parameters"),
    ({"base_net_cfg__vocab_size": 70}, "eval_ckpt: .* has no fitting weights for 2 parameters of the network, such as"),
])
def test_mistakes(data_dir: Path, checkpoint: Path, options: dict, message: str) -> None:
    given = {"eval_data_dir": data_dir, "eval_ckpt": checkpoint} | options
    with pytest.raises(UserError, match=message) as raised:
        pretrain_eval.main(tiny_options(**given))
    assert "\n" not in str(raised.value)
