"""The library behind the scripts at the top of the repository.

`load_predictor` can be imported from here, and the networks, as the usage code of the Hub's pages does.
"""

import importlib

_NAMES = {"load_predictor": "inference.predictor",
          "BertConfig": "bert_model", "BertModel": "bert_model", "BertPreTraining": "bert_for_pre_training",
          "BertPretrainingLoss": "bert_for_pre_training", "BertNetworkWithLoss": "bert_for_pre_training",
          "GetMaskedLMOutput": "bert_for_pre_training", "GetNextSentenceOutput": "bert_for_pre_training"}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for: what needs none, such as data generation, starts without MindSpore."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
