"""Configuration files of the original project: what becomes of their keys and values.

They are taken as `--config_path` as they are. Most keys are ours; this is the table of the others.
"""

import sys
from collections.abc import Mapping
from typing import Any

# Old key -> ours. What the value means is the same.
RENAMED = {
    "Thor.lr_max": "Thor.learning_rate",
    "Thor.lr_min": "Thor.end_learning_rate",
    "Thor.lr_power": "Thor.power",
    "Thor.lr_total_steps": "Thor.decay_steps",
    "Thor.damping_max": "Thor.damping",
    "Thor.damping_min": "Thor.end_damping",
    "Thor.damping_total_steps": "Thor.damping_decay_steps",
    "schema_file": "schema_dir",
}
# Old key -> ours, and in what ours differs, which the user is told.
TRANSLATED = {
    "Thor.loss_scale": ("loss_scale_value", "the scale starts there and adapts; there it was fixed"),
}
# Renamed keys whose numbers were made for other steps.
CHANGED_MEANING = {
    "Thor.lr_max": "steps of THOR are as long as Adam's here",
    "Thor.damping_max": "damping is relative to the mean curvature here",
}
# Values by key: what the original's documents and files say for ours.
_ADAM = dict.fromkeys(("AdamWeightDecayDynamicLR", "AdamWerigtDecayDynamicLR", "AdamWeigtDecayDynamicLR"),
                      "AdamWeightDecay")
VALUES = {"optimizer": _ADAM, "optimizer_cfg.optimizer": _ADAM, "num_samples": {"None": "-1"}}

# What the original's documents call a key that has another name in some of the files.
HINTS = {"batch_size": "train_batch_size", "bert_network": "bert_net_cfg.hidden_size"}


def translate_file(values: Mapping[str, Any], known: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The values of a file by our keys; says on standard error what means something else here.

    Args:
        values: by dotted keys, as in the file.
        known: the keys of this program, which are never taken for old ones.
        source: the file.
    """
    in_use = values.get("optimizer") == "Thor"  # its group stands in every file
    translated = {}
    for key, value in values.items():
        new = key if key in known else RENAMED.get(key) or TRANSLATED.get(key, ("",))[0]
        if new not in known:
            translated[key] = value  # whoever converts the values says that it is unknown
        elif key in TRANSLATED and not in_use:
            continue
        else:
            translated[new] = int(value) if isinstance(value, float) and key in TRANSLATED else value
        difference = CHANGED_MEANING.get(key) or TRANSLATED.get(key, ("", ""))[1]
        if difference and in_use and new != key:
            print(f"{source}: {key} is taken for {new}: {difference}", file=sys.stderr, flush=True)
    return translated


def our_value(key: str, value: object) -> object:
    """The value of a key in our words."""
    return VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
