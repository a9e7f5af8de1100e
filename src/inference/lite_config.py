"""What MindSpore Lite has to be told to compute a MINDIR model on an Ascend.

Lite's own default, `enforce_fp16`, turns the epsilon of the layer normalisation, 1e-12, into 0. `preferred_fp32` keeps
float32 where the network has it; products of matrices are float16 in any case.

A model for any batch size is compiled for some sizes, of which CANN recommends three or four. Lite takes `dynamic_dims`
of the section `ascend_context` for inputs of four dimensions only, so these sizes stand in another section, which
ascend310_infer hands to Lite through the context.
"""

from collections.abc import Mapping, Sequence

SUFFIX = ".lite.ini"
BATCH_SIZES = (1, 4, 16, 32)


def lite_config(shapes: Mapping[str, Sequence[int | None]]) -> str:
    """The file beside a model with inputs of these shapes; None stands for any batch size."""
    lines = ["# For MindSpore Lite on an Ascend: ascend310_infer reads it, and loads it by Model::LoadConfig.",
             "[ascend_context]", "precision_mode=preferred_fp32"]
    if any(None in shape for shape in shapes.values()):
        inputs = (f"{name}:{','.join('-1' if size is None else str(size) for size in shape)}"
                  for name, shape in shapes.items())
        lines += ["", "[acl_option_cfg_param]", f"input_shape={';'.join(inputs)}",
                  f"dynamic_batch_size={','.join(map(str, BATCH_SIZES))}"]
    return "\n".join(lines) + "\n"


def fitting_batch_size(wanted: int, sizes: Sequence[int]) -> int:
    """The smallest of the sizes that holds as many rows, or the largest."""
    return min((size for size in sizes if size >= wanted), default=max(sizes))
