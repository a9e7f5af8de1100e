"""What the activations of the feed-forward blocks are called in each framework.

The same word means different functions: "gelu" is the tanh form in Google's BERT and here, but the exact (erf) form in
transformers.
"""

from pathlib import Path

from src.errors import UserError

_FROM_HUGGINGFACE = {
    "gelu": "gelu_erf", "gelu_python": "gelu_erf",
    "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_accurate": "gelu",
    "quick_gelu": "fast_gelu", "relu": "relu", "tanh": "tanh",
}
_FROM_TENSORFLOW = {"gelu": "gelu", "relu": "relu", "tanh": "tanh"}
_BY_FRAMEWORK = {"huggingface": _FROM_HUGGINGFACE, "tensorflow": _FROM_TENSORFLOW}


def activation_from(framework: str, name: str, source: Path) -> str:
    """Our `hidden_act` for the one of another framework's configuration.

    Raises:
        UserError: there is none.
    """
    known = _BY_FRAMEWORK[framework]
    if name not in known:
        raise UserError(f"{source}: hidden_act {name!r} has no counterpart here; {', '.join(known)} have")
    return known[name]


def activation_for(framework: str, name: str) -> str:
    """Another framework's name of our `hidden_act`.

    Raises:
        UserError: it has none.
    """
    for theirs, ours in _BY_FRAMEWORK[framework].items():
        if ours == name:
            return theirs
    raise UserError(f"hidden_act {name} has no counterpart in the BERT of {framework}; networks with "
                    f"{', '.join(dict.fromkeys(_BY_FRAMEWORK[framework].values()))} can be converted")
