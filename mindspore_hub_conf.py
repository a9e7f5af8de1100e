"""Networks of this repository for MindSpore Hub, which calls `create_network` and loads a checkpoint into the result.

    network = create_network("bert_base", is_training=False)
    hidden, pooled, embedding_table = network(input_ids, token_type_ids, input_mask)
"""

import dataclasses
import difflib
from typing import Any

import mindspore as ms
from mindspore import Tensor

from src.bert_model import BertConfig, BertModel
from src.cpu_kernels.library import plain_operators
from src.errors import UserError
from src.model_utils.config import load_config, select_network
from src.model_utils.device_adapter import resolve_compute_type

# The options of run_pretrain.py that choose each.
NETWORKS = {"bert_base": ("--bert_network", "base"), "bert_nezha": ("--bert_network", "nezha"),
            "bert_large": ("--bert_network", "large"), "bert_large_boost": ("--bert_network", "large_boost"),
            "bert_thor": ("--config_path", "pretrain_thor_config.yaml")}
SIZES = tuple(field.name for field in dataclasses.fields(BertConfig))


class HubBertModel(BertModel):
    """`BertModel` that takes a single record too, as the usage code on the Hub's pages feeds it."""

    def construct(self, input_ids: Tensor, token_type_ids: Tensor, input_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode int32 or int64 columns [B,S], or [S] for a batch of one; see `BertModel`."""
        length = input_ids.shape[-1]
        return super().construct(input_ids.reshape((-1, length)), token_type_ids.reshape((-1, length)),
                                 input_mask.reshape((-1, length)))


def create_network(name: str, *args: Any, **kwargs: Any) -> BertModel:  # noqa: ANN401
    """The encoder called `name`, with parameters of the names that the published checkpoints have.

    Args:
        name: one of `NETWORKS`.
        args: `use_one_hot_embeddings`, as for `BertModel`.
        kwargs: `is_training` (default False) for dropout; any field of `BertConfig`, such as `seq_length`, in place of
            the network's own. `batch_size` is accepted and has no effect: any batch fits.

    Raises:
        UserError: there is no such network or size, or a value does not fit.
    """
    if name not in NETWORKS:
        raise UserError(f"create_network: unknown network {name!r}; choose one of {', '.join(NETWORKS)}")
    is_training = kwargs.pop("is_training", False)
    kwargs.pop("batch_size", None)
    unknown = [key for key in kwargs if key not in (*SIZES, "use_one_hot_embeddings")]
    if unknown:
        near = difflib.get_close_matches(unknown[0], SIZES, n=1)
        raise UserError(f"create_network: unknown argument {unknown[0]!r}"
                        + (f"; did you mean {near[0]}?" if near else f"; sizes are {', '.join(SIZES)}"))
    sizes, _ = select_network(load_config("", "pretrain_config.yaml", NETWORKS[name]))
    sizes["compute_type"] = resolve_compute_type(ms.get_context("device_target"), sizes["compute_type"], False)
    sizes |= {key: value for key, value in kwargs.items() if key in SIZES}
    options = {key: value for key, value in kwargs.items() if key not in SIZES}
    with plain_operators():  # what becomes of the network is not known here; it may be exported
        return HubBertModel(BertConfig(**sizes), is_training, *args, **options)
