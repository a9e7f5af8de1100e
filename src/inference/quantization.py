"""Quantize ONNX models to int8 with ONNX Runtime's dynamic quantizer.

The products of the encoder's layers take int8 weights, with a scale for each output, and uint8 activations, whose scale
is found anew for each tensor while the model runs: the scores of a text depend a little on its batch. The vectors of
words are stored in 8 bits. Attention scores, layer normalisation and the head, which takes no time, stay in float32.
All operators are standard ones.
"""

from pathlib import Path
from typing import Any

from src.onnx_graph import onnx_package

PURPOSE = "quantization int8"
# What the names of weights begin with, by the operator that takes them.
_QUANTIZED = {"MatMul": "bert.bert_encoder.", "Gather": "bert.bert_embedding_lookup."}


def quantize(path: Path) -> None:
    """Quantize a model that `write_onnx` wrote, in its place."""
    onnx = onnx_package("onnx", PURPOSE)
    quantization = onnx_package("onnxruntime.quantization", PURPOSE)
    model = onnx.load(str(path))
    _keep_additions_apart(model.graph)
    quantization.quant_utils.add_pre_process_metadata(model)  # nothing to prepare: it would print that advice
    nodes = [node.name for node in model.graph.node if _is_quantized(node)]
    quantization.quantize_dynamic(model, str(path), per_channel=True, weight_type=quantization.QuantType.QInt8,
                                  op_types_to_quantize=list(_QUANTIZED), nodes_to_quantize=nodes)
    onnx.checker.check_model(str(path))


def _is_quantized(node: Any) -> bool:  # noqa: ANN401 - onnx may be absent
    beginning = _QUANTIZED.get(node.op_type)
    return beginning is not None and any(name.startswith(beginning) for name in node.input)


def _keep_additions_apart(graph: Any) -> None:  # noqa: ANN401 - likewise
    """Add residuals by `Sum`, which gives the same digits.

    ONNX Runtime joins `Add` and `LayerNormalization` in an operator that takes four times as long as the two apart;
    without it BERT-base takes four fifths of the time.
    """
    normalised = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
    for node in graph.node:
        if node.op_type == "Add" and node.output[0] in normalised:
            node.op_type = "Sum"
