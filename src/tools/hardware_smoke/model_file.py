"""A MINDIR model that this device exports gives, loaded again, what its network gives."""

import mindspore as ms
import numpy as np

from src.bert_for_pre_training import initialize_parameters
from src.inference.export import export_model
from src.inference.exported import MindirNetwork
from src.model_utils.config import load_config
from src.records.columns import SEQUENCE_COLUMNS
from src.tasks.registry import TASKS, task_type
from src.tools.hardware_smoke.networks import compute, pretraining_rows, tensors, tiny_config
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge

ROWS = 2


def check_model_file(setting: Setting) -> Outcome:
    """Export the network of a fine-tuning task with the command's own function, and compare the scores."""
    sizes = tiny_config(setting)
    task = next(iter(TASKS))
    task_class = task_type(task)
    checkpoint = setting.directory / "exported.ckpt"
    options = {"file_format": "MINDIR", "export_batch_size": ROWS, "export_ckpt_file": checkpoint,
               "export_file_name": setting.directory / "exported",
               "bert_net_cfg.compute_type": setting.compute_type}
    options |= {f"bert_net_cfg.{name}": getattr(sizes, name) for name in (
        "seq_length", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "type_vocab_size")}
    config = load_config("", task_class.config_file, [word for name, value in options.items()
                                                      for word in (f"--{name}", str(value))])
    network = task_class.from_config(config, setting.target).inference_network()
    initialize_parameters(network, sizes.initializer_range, seed=0)
    ms.save_checkpoint(network, str(checkpoint))
    rows = pretraining_rows(sizes, ROWS)
    columns = tensors({name: rows[name] for name in SEQUENCE_COLUMNS})
    expected = compute(network.set_train(False), *columns).asnumpy()
    found = compute(MindirNetwork(export_model(config, setting.target), task), *columns).asnumpy()
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    return judge(difference <= setting.tolerance,
                 f"scores {'x'.join(map(str, expected.shape))} differ by {difference:.1e}; "
                 f"allowed {setting.tolerance:.0e}")
