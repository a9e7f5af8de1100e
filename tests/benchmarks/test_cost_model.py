import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import cost_model
from benchmarks.cost_model import (
    ASCEND,
    PUBLISHED,
    fit_efficiency,
    fit_memory,
    forward_products,
    reduce_time,
    step_operations,
    step_time,
)
from src.bert_for_pre_training import BertPreTraining
from src.bert_model import BertConfig
from src.model_utils.config import REPOSITORY, load_config
from src.training.cost import MOMENTS, Workload, activations, cpu_memory, layer_activations, memory, parameters
from src.training.create_optimizer import create_optimizer

TINY = BertConfig(seq_length=16, vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                  intermediate_size=40, max_position_embeddings=32, type_vocab_size=2)
RELATIVE = {"use_relative_positions": True}


def changed(net, **values):
    return SimpleNamespace(**({name: getattr(net, name) for name in net.__dataclass_fields__} | values))


@pytest.mark.parametrize("changes", [{}, RELATIVE, RELATIVE | {"relative_position_kind": "sinusoidal"}])
def test_parameters_are_those_of_the_network(changes):
    net = BertConfig(**vars(changed(TINY, **changes, max_relative_position=None)))
    network = BertPreTraining(net, is_training=True)
    assert parameters(net) == sum(parameter.size for parameter in network.get_parameters())


def test_parameters_of_the_published_networks():
    """The numbers of the English BERT-base and BERT-large with both heads, as other implementations count them."""
    config = load_config("", "pretrain_config.yaml", ["--base_net_cfg.vocab_size", "30522"])
    assert parameters(config.base_net_cfg) == 110_106_428
    assert parameters(config.large_net_cfg) == 336_226_108


@pytest.mark.parametrize("name", MOMENTS)
def test_optimizer_state(name):
    network = BertPreTraining(TINY, is_training=True)
    state = create_optimizer(name, network, {"learning_rate": 0.1}, total_steps=1).state()
    moments = sum(value.size for state_name, value in state.items() if state_name != "global_step")
    assert memory(Workload(TINY, 1, 16, 1, name), 4)["state"] == 4 * moments


def test_operations_by_hand():
    # 2 sequences of 4 tokens, hidden 3, 2 layers, intermediate 5, vocabulary 7, 1 masked position each
    net = SimpleNamespace(hidden_size=3, num_hidden_layers=2, num_attention_heads=1, intermediate_size=5, vocab_size=7,
                          use_relative_positions=False)
    projections = 8 * 4 * 3 * 3  # 8 tokens; query, key, value, output: 3 to 3
    feed_forward = 8 * (3 * 5 + 5 * 3)
    scores_and_sums = 2 * (4 * 4 * 3) * 2  # 2 sequences, 4 x 4 pairs, 3 numbers; scores, and weighted sums
    words = 2 * (3 * 3 + 3 * 7)  # 2 masked positions: dense, then the vocabulary
    pairs = 2 * (3 * 3 + 3 * 2)  # pooler, and two classes
    run = Workload(net, 2, 4, predictions=1)
    assert forward_products(run) == 2 * (projections + feed_forward + scores_and_sums) + words + pairs
    assert step_operations(run) == 6 * forward_products(run)
    net.use_relative_positions = True
    assert forward_products(run) == 2 * (projections + feed_forward + 2 * scores_and_sums) + words + pairs


def test_activations_by_hand():
    run = Workload(TINY, 2, 4, predictions=1)  # 8 tokens, hidden 16, 2 heads, intermediate 40, vocabulary 50
    layer = 8 * (8 * 2 * 16 + 2 * 4 * 16 + (4 + 2 * 2) * 2 * 4 + 3 * 2 * 40)  # in float16
    assert layer_activations(run, 2) == layer
    assert activations(run, 2) == 3 * layer + 8 * 8 * 16 + 10 * 2 * 50


def test_more_work_takes_more():
    for better, worse in [(Workload(TINY, 4, 16), Workload(TINY, 5, 16)),
                          (Workload(TINY, 4, 16), Workload(TINY, 4, 17)),
                          (Workload(TINY, 4, 16), Workload(changed(TINY, num_hidden_layers=4), 4, 16)),
                          (Workload(TINY, 4, 16), Workload(changed(TINY, vocab_size=60), 4, 16)),
                          (Workload(TINY, 4, 16), Workload(changed(TINY, use_relative_positions=True), 4, 16)),
                          (Workload(TINY, 4, 16, optimizer="Momentum"), Workload(TINY, 4, 16, optimizer="Lamb"))]:
        for c in (2, 4):
            assert memory(better, c)["total"] < memory(worse, c)["total"]
        assert step_time(better, ASCEND) < step_time(worse, ASCEND)
    times = [step_time(Workload(TINY, 4, 16, devices), ASCEND) for devices in (1, 2, 4, 8)]
    assert times == sorted(set(times)), "more devices communicate more, for the same batch on each"
    assert reduce_time(Workload(TINY, 4, 16, 1), ASCEND) == 0
    limit = 2 * 4 * parameters(TINY) / ASCEND.link_bandwidth
    assert 0.9 * limit < reduce_time(Workload(TINY, 4, 16, 1000), ASCEND) < limit


def test_fits_reproduce_what_they_were_fitted_to():
    run, other = Workload(TINY, 4, 16, 8), Workload(TINY, 2, 16, 8)
    seconds = 10 * step_time(run, ASCEND)
    assert step_time(run, fit_efficiency(run, ASCEND, seconds)) == pytest.approx(seconds)
    times, base = fit_memory([(run, 5e9), (other, 4.9e9)])
    assert cpu_memory(run, times, base) == pytest.approx(5e9)
    assert cpu_memory(other, times, base) == pytest.approx(4.9e9)


def test_published_lines_are_predicted_within_what_the_readme_says():
    config = load_config("", "pretrain_config.yaml", [])
    device = cost_model.fit_ascend(config)
    assert 0.2 < device.efficiency < 0.9, "no more than the device can do"
    errors = [step_time(cost_model.run_of_published(config, line), device) / line.seconds - 1 for line in PUBLISHED
              if line.device is ASCEND]
    assert errors[0] == pytest.approx(0) and all(abs(error) < 0.25 for error in errors)


def test_the_documented_command():
    done = subprocess.run([sys.executable, "benchmarks/cost_model.py"], cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert "| large | 336.2 | 24 x 512 x 8 |" in done.stdout
    assert done.stdout.count("| Ascend 910 | MindSpore") == 4


@pytest.mark.slow
def test_a_measurement_of_the_small_network(monkeypatch, capsys):
    """The real training step is timed in a process of its own."""
    case = {"network": "small", "batch_size": 2, "seq_length": 32, "optimizer": "Momentum", "steps": 1}
    found = cost_model.in_process("train", case)
    assert len(found["seconds"]) == 1 and found["seconds"][0] > 0
    assert found["peak"] > found["before"] > 1e8
    monkeypatch.setattr(cost_model, "in_process", lambda run, case: {"matmul": 1e11, "stream": 1e10} if run == "speed"
                        else found | {"peak": found["peak"] + case["batch_size"] * 1e6})
    cost_model.print_measured("small", 1, "Momentum")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 5 and "| +0% |" in lines[1]
