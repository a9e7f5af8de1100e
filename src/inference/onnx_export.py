"""The networks of this repository as ONNX models, for any batch size and sequence length.

Weights keep the names of the checkpoints. Everything is computed in float32. Shapes at line ends: B batch, S sequence
(F where it queries, T where it is attended to), N heads, D width of a head, H hidden, C classes, K tags, P masked
positions, V vocabulary.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from src.bert_model import MASKED_SCORE, BertConfig, sinusoidal_table
from src.onnx_graph import OPSET, TOKENS, Head, OnnxGraph, onnx_package

INPUTS = ("input_ids", "input_mask", "token_type_id")  # of the networks, in this order, int32 [B,S]
# What the inputs of a model are called, and their type, by `onnx_input_names`.
INPUT_NAMES = {"tokenizer": (("input_ids", "attention_mask", "token_type_ids"), "INT64"), "original": (INPUTS, "INT32")}
METADATA = "about"  # key of the model's own description, a JSON object
IR_VERSION = 8  # the oldest that has the opset
EMBEDDINGS = "embeddings"  # name of the value

_FLOAT, _INT32 = 1, 6  # the numbers of ONNX for the types


def write_onnx(path: Path, config: BertConfig, weights: Mapping[str, np.ndarray], head: Head, about: Mapping,
               input_names: str = "tokenizer") -> None:
    """Build the network, check it and write it.

    Args:
        path: where to.
        config: sizes of the encoder.
        weights: all parameters by name; those of the encoder begin with "bert.".
        head: what follows the encoder.
        about: description that becomes part of the model.
        input_names: a key of `INPUT_NAMES`.
    """
    onnx = onnx_package("onnx", "file_format ONNX")
    graph = OnnxGraph(weights)
    names, kind = INPUT_NAMES[input_names]
    for name, ours in zip(names, INPUTS, strict=True):
        if name != ours:  # those of one name are looked up by it, in whatever type
            graph.add("Cast", name, to=_INT32, name=ours)
    head.build(graph, _encoder(graph, config))
    all_inputs = dict.fromkeys(names, TOKENS) | dict(head.further_inputs)
    inputs = {name: (kind, axes) for name, (_, axes) in all_inputs.items()}
    outputs = dict(head.outputs) | dict(head.further_outputs)
    # What no program can deduce, and ONNX Runtime must know to join residual and layer normalisation in one operator.
    embeddings = graph.value(EMBEDDINGS, "FLOAT", ("batch", "sequence", config.hidden_size))
    body = onnx.helper.make_graph(
        graph.nodes, "bert", [graph.value(name, *value) for name, value in inputs.items()],
        [graph.value(name, *value) for name, value in outputs.items()], value_info=[embeddings])
    model = onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="export.py")
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about, ensure_ascii=False)})
    for name, array in graph.initializers.items():  # one by one: weights of large networks should not exist many times
        model.graph.initializer.add().CopyFrom(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))


# ---------------------------------------------------------------- encoder

def _encoder(graph: OnnxGraph, config: BertConfig) -> str:
    """Add embeddings and blocks, see `src.bert_model.BertModel`; return the hidden states [B,S,H]."""
    x = _embeddings(graph, config)
    mask = graph.add("Unsqueeze", graph.add("Unsqueeze", "input_mask", [1]), [2])  # [B,1,1,T]
    padding = graph.add("Sub", 1.0, graph.add("Cast", mask, to=_FLOAT))
    additive_mask = graph.add("Mul", padding, MASKED_SCORE)
    relative = None
    if config.use_relative_positions:
        clip = config.max_relative_position
        assert clip is not None  # a BertConfig puts its default in the place of None
        relative = _distances(graph, clip)  # [F,T]
        if config.relative_position_kind == "sinusoidal":
            table = sinusoidal_table(clip, config.size_per_head)
            relative = graph.add("Gather", table, relative, axis=0)  # [F,T,D]
    for number in range(config.num_hidden_layers):
        x = _block(graph, config, f"bert.bert_encoder.layers.{number}", x, additive_mask, relative)
    return x


def _embeddings(graph: OnnxGraph, config: BertConfig) -> str:
    """Sum of word, segment and position vectors, normalised [B,S,H]."""
    post = "bert.bert_embedding_postprocessor"
    words = graph.weight("bert.bert_embedding_lookup.embedding_table")
    segments = graph.weight(f"{post}.token_type_embedding.embedding_table")
    x = graph.add("Add", graph.add("Gather", words, "input_ids"), graph.add("Gather", segments, "token_type_id"))
    if not config.use_relative_positions:
        table = graph.weight(f"{post}.full_position_embedding.embedding_table")
        x = graph.add("Add", x, graph.add("Slice", table, [0], graph.sequence_length(), [0]))  # [S,H] broadcasts over B
    return graph.layer_norm(x, f"{post}.layernorm", EMBEDDINGS)


def _distances(graph: OnnxGraph, clip: int) -> str:
    """Distances t - f, clipped and shifted to start at 0, int64 [F,T]."""
    positions = graph.add("Range", 0, graph.add("Squeeze", graph.sequence_length()), 1)  # [S]
    distances = graph.add("Sub", positions, graph.add("Unsqueeze", positions, [1]))
    return graph.add("Add", graph.add("Clip", distances, -clip, clip), clip)


def _block(graph: OnnxGraph, config: BertConfig, name: str, x: str, additive_mask: str, relative: str | None) -> str:
    """One transformer block, [B,S,H] to [B,S,H]."""
    values = _attention(graph, config, f"{name}.attention.attention", x, additive_mask, relative)
    x = _output(graph, f"{name}.attention.output", values, x)
    return _output(graph, f"{name}.output", graph.dense(x, f"{name}.intermediate", config.hidden_act), x)


def _output(graph: OnnxGraph, name: str, x: str, residual: str) -> str:
    return graph.layer_norm(graph.add("Add", graph.dense(x, f"{name}.dense"), residual), f"{name}.layernorm")


def _attention(graph: OnnxGraph, config: BertConfig, name: str, x: str, additive_mask: str,
               relative: str | None) -> str:
    """Attention of every token to every token that is not padding, [B,S,H] to [B,S,H]."""
    def heads(layer: str, axes: tuple[int, ...]) -> str:
        y = graph.dense(x, f"{name}.{layer}")
        y = graph.add("Reshape", y, [0, 0, config.num_attention_heads, config.size_per_head])  # 0 keeps an axis
        return graph.add("Transpose", y, perm=axes)

    query, key, value = (heads("query_layer", (0, 2, 1, 3)), heads("key_layer", (0, 2, 3, 1)),
                         heads("value_layer", (0, 2, 1, 3)))  # [B,N,F,D], [B,N,D,T], [B,N,T,D]
    scores = graph.add("MatMul", query, key)  # [B,N,F,T]
    if relative:
        vectors = relative  # [F,T,D]
        if config.relative_position_kind == "learned":
            table = graph.weight(f"{name}._generate_relative_positions_embeddings.embeddings_table")
            vectors = graph.add("Gather", table, relative, axis=0)
        scores = graph.add("Add", scores, graph.add("Einsum", query, vectors, equation="bnfd,ftd->bnft"))
    scores = graph.add("Div", scores, float(np.sqrt(config.size_per_head)))
    probabilities = graph.add("Softmax", graph.add("Add", scores, additive_mask), axis=-1)
    context = graph.add("MatMul", probabilities, value)  # [B,N,F,D]
    if relative:
        context = graph.add("Add", context, graph.add("Einsum", probabilities, vectors, equation="bnft,ftd->bnfd"))
    return graph.add("Reshape", graph.add("Transpose", context, perm=(0, 2, 1, 3)), [0, 0, config.hidden_size])
