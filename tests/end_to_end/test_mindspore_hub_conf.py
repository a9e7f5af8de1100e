"""The networks of the Hub: sizes, parameter names, and the usage code of both pages with a stand-in for its package."""

import runpy
import subprocess
import sys
from types import ModuleType

import mindspore as ms
import numpy as np
import pytest
from paths import REPOSITORY

import mindspore_hub_conf
from mindspore_hub_conf import create_network
from src.bert_model import BertConfig, BertModel
from src.errors import UserError
from src.records.columns import pretrain_columns
from src.records.writer import RecordWriter

TINY = {"seq_length": 12, "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 16}

# What both pages do with the network, with the sizes, the device and the import of the data sets as they are here.
USAGE_NEZHA = """
import mindspore_hub as mshub
import mindspore.dataset as de
from mindspore import Tensor, nn
from mindspore.common import dtype as mstype
from model_zoo.official.nlp.bert.src.bert_model import BertConfig
from model_zoo.official.nlp.bert.src import GetMaskedLMOutput

model = "mindspore/ascend/1.0/bert_nezha_v1.0_cn-wiki"
bert_nezha_cfg = BertConfig(seq_length=12, vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=24, hidden_act="gelu", hidden_dropout_prob=0.0,
                            attention_probs_dropout_prob=0.0, max_position_embeddings=16, type_vocab_size=2,
                            initializer_range=0.02, use_relative_positions=True, dtype=mstype.float32,
                            compute_type=mstype.float16)


class MLM(nn.Cell):
    def __init__(self, config):
        super(MLM, self).__init__()
        network = mshub.load(model, is_training=False)
        network.set_train(False)
        self.bert = network
        self.cls1 = GetMaskedLMOutput(config)

    def construct(self, input_ids, input_mask, token_type_id, masked_pos):
        sequence_output, _, embedding_table = self.bert(input_ids, token_type_id, input_mask)
        prediction_scores = self.cls1(sequence_output, embedding_table, masked_pos)
        return prediction_scores


columns_list = ["input_ids", "input_mask", "segment_ids", "masked_lm_positions"]
ds = de.TFRecordDataset(data_files, None, columns_list=columns_list)
mlm_net = MLM(bert_nezha_cfg)
outs = []
for data in ds.create_dict_iterator():
    input_data = []
    for i in columns_list:
        input_data.append(Tensor(data[i]))
    input_ids, input_mask, segment_ids, masked_lm_positions = input_data
    outs.append(mlm_net(input_ids, input_mask, segment_ids, masked_lm_positions))
"""
USAGE_THOR = """
import mindspore_hub as mshub
import mindspore.dataset as de
from mindspore import Tensor

model = "mindspore/ascend/1.0/bert_thor_v1.0_MLPerf_v0.7_dataset"
network = mshub.load(model, is_training=False, batch_size=12)
network.set_train(False)
columns_list = ["input_ids", "input_mask", "segment_ids"]
ds = de.TFRecordDataset(data_files, None, columns_list=columns_list)
outs = []
for data in ds.create_dict_iterator():
    input_data = []
    for i in columns_list:
        input_data.append(Tensor(data[i]))
    input_ids, input_mask, segment_ids = input_data
    outs.append(network(input_ids, segment_ids, input_mask))
"""


@pytest.fixture
def data_files(tmp_path):
    """A TFRecord file of three records, as pre-training has them."""
    columns = pretrain_columns(12, 3)
    batch = {name: np.arange(3 * width).reshape(3, -1) % (37 if name == "input_ids" else 2)
             for name, (_, width) in columns.items()}
    path = tmp_path / "toy.tfrecord"
    with RecordWriter(path, columns, "tfrecord") as writer:
        writer.write(batch)
    return str(path)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stand-ins for the package mindspore_hub, which makes networks tiny and gives each the same weights, and for the
    place of the repository in the model zoo."""
    loaded = []

    def load(name, *args, **kwargs):
        network = create_network(name.rsplit("/", 1)[-1].split("_v1.0")[0], *args, **{**TINY, **kwargs})
        for number, parameter in enumerate(network.get_parameters()):
            values = np.random.default_rng(number).normal(0, 0.5, parameter.shape)
            parameter.set_data(ms.Tensor(values, parameter.dtype))
        loaded.append(network)
        return network

    package = ModuleType("mindspore_hub")
    package.load = load
    monkeypatch.setitem(sys.modules, "mindspore_hub", package)
    (tmp_path / "model_zoo/official/nlp").mkdir(parents=True)
    (tmp_path / "model_zoo/official/nlp/bert").symlink_to(REPOSITORY)
    monkeypatch.syspath_prepend(tmp_path)
    yield loaded
    for name in [name for name in sys.modules if name.startswith("model_zoo")]:
        del sys.modules[name]


def run_usage(code, tmp_path, data_files):
    script = tmp_path / "usage.py"  # a file, because graph mode reads the source of the cells
    script.write_text(code, encoding="utf-8")
    return runpy.run_path(str(script), {"data_files": data_files})["outs"]


def test_usage_of_the_nezha_page(graph_mode, hub, tmp_path, data_files):
    outs = run_usage(USAGE_NEZHA, tmp_path, data_files)
    assert [out.shape for out in outs] == [(3, 40)] * 3
    assert all(np.isfinite(out.asnumpy()).all() for out in outs)
    assert not hasattr(hub[0], "cls1")
    assert any("_generate_relative_positions_embeddings" in parameter.name for parameter in hub[0].get_parameters())


def test_usage_of_the_thor_page(graph_mode, hub, tmp_path, data_files):
    outs = run_usage(USAGE_THOR, tmp_path, data_files)
    assert [[value.shape for value in out] for out in outs] == [[(1, 12, 16), (1, 16), (40, 16)]] * 3
    assert np.abs(outs[0][0].asnumpy() - outs[1][0].asnumpy()).max() > 0.1


@pytest.mark.parametrize(("name", "sizes", "relative"), [
    ("bert_base", (128, 21128, 768, 12, 12, 3072, "gelu"), False),
    ("bert_nezha", (128, 21128, 1024, 24, 16, 4096, "gelu"), True),
    ("bert_large", (512, 30522, 1024, 24, 16, 4096, "gelu"), False),
    ("bert_large_boost", (512, 30522, 1024, 24, 16, 4096, "fast_gelu"), False),
    ("bert_thor", (512, 30522, 1024, 24, 16, 4096, "gelu"), False),
])
def test_sizes_of_the_networks(monkeypatch, name, sizes, relative):
    made = []
    monkeypatch.setattr(mindspore_hub_conf, "HubBertModel", lambda *args: made.append(args))
    create_network(name)
    config, is_training = made[0]
    assert (config.seq_length, config.vocab_size, config.hidden_size, config.num_hidden_layers,
            config.num_attention_heads, config.intermediate_size, config.hidden_act) == sizes
    assert (config.use_relative_positions, config.max_position_embeddings, config.type_vocab_size) == (relative, 512, 2)
    assert is_training is False
    assert config.compute_type == ms.float32  # on CPU


def test_parameter_names_are_those_of_the_bare_encoder():
    names = [parameter.name for parameter in create_network("bert_base", **TINY, is_training=True).get_parameters()]
    assert names == [parameter.name for parameter in BertModel(BertConfig(**TINY), False).get_parameters()]


def test_a_size_that_is_asked_for_wins():
    network = create_network("bert_base", **TINY, compute_type="float16", use_one_hot_embeddings=True)
    assert network.compute_type == ms.float16
    assert network.bert_embedding_lookup.use_one_hot
    assert network.bert_embedding_lookup.embedding_table.shape == (40, 16)


@pytest.mark.parametrize(("name", "sizes", "message"), [
    ("bert_huge", {}, r"unknown network 'bert_huge'; choose one of bert_base, bert_nezha"),
    ("bert_base", {"hiden_size": 16}, r"unknown argument 'hiden_size'; did you mean hidden_size\?"),
    ("bert_base", {"hidden_size": 17}, r"hidden_size: 17 cannot be divided among num_attention_heads 12"),
])
def test_mistakes_are_one_line(name, sizes, message):
    with pytest.raises(UserError, match=message) as caught:
        create_network(name, **sizes)
    assert "\n" not in str(caught.value)


def test_importing_the_package_imports_no_mindspore():
    code = "import sys, src; assert 'mindspore' not in sys.modules; assert not hasattr(src, 'nonsense')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
