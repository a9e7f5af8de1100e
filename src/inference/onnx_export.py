"""The networks of this repository as ONNX models, for any batch size and sequence length.

Weights keep the names of the checkpoints. Everything is computed in float32. Shapes at line ends: B batch, S sequence
(F where it queries, T where it is attended to), N heads, D width of a head, H hidden, C classes, K tags, P masked
positions, V vocabulary.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.bert_model import MASKED_SCORE, BertConfig, sinusoidal_table
from src.onnx_graph import OPSET, OnnxGraph, onnx_package

INPUTS = ("input_ids", "input_mask", "token_type_id")  # in this order, int32 [B,S]
METADATA = "about"  # key of the model's own description, a JSON object
IR_VERSION = 8  # the oldest that has the opset
EMBEDDINGS = "embeddings"  # name of the value
TOKENS = ("INT32", ("batch", "sequence"))

_FLOAT, _INT32, _INT64, _BOOL = 1, 6, 7, 9  # the numbers of ONNX for types

Value = tuple[str, Sequence[str | int]]


class Head(NamedTuple):
    """What follows the encoder. Inputs and outputs are {name: (type, axes)}; axes that are free have a name."""

    build: Callable[[OnnxGraph, str], None]  # takes the graph and the hidden states [B,S,H], names its outputs
    outputs: Mapping[str, Value]  # those of the network
    further_inputs: Mapping[str, Value] = {}  # besides those of the encoder
    further_outputs: Mapping[str, Value] = {}  # which the network keeps to itself


def write_onnx(path: Path, config: BertConfig, weights: Mapping[str, np.ndarray], head: Head, about: Mapping) -> None:
    """Build the network, check it and write it.

    Args:
        path: where to.
        config: sizes of the encoder.
        weights: all parameters by name; those of the encoder begin with "bert.".
        head: what follows the encoder.
        about: description that becomes part of the model.
    """
    onnx = onnx_package("onnx", "file_format ONNX")
    graph = OnnxGraph(weights)
    head.build(graph, _encoder(graph, config))
    inputs = dict.fromkeys(INPUTS, TOKENS) | dict(head.further_inputs)
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
        relative = _distances(graph, config.max_relative_position)  # [F,T]
        if config.relative_position_kind == "sinusoidal":
            table = sinusoidal_table(config.max_relative_position, config.size_per_head)
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
        x = graph.add("Add", x, graph.add("Slice", table, [0], _length(graph), [0]))  # [S,H] broadcasts over B
    return graph.layer_norm(x, f"{post}.layernorm", EMBEDDINGS)


def _length(graph: OnnxGraph) -> str:
    """The sequence length [1], int64."""
    return graph.add("Shape", "input_ids", start=1, end=2)


def _distances(graph: OnnxGraph, clip: int) -> str:
    """Distances t - f, clipped and shifted to start at 0, int64 [F,T]."""
    positions = graph.add("Range", 0, graph.add("Squeeze", _length(graph)), 1)  # [S]
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


# ---------------------------------------------------------------- heads

def _pooled(graph: OnnxGraph, hidden: str) -> str:
    """The pooled first token [B,H]."""
    return graph.dense(graph.add("Gather", hidden, 0, axis=1), "bert.dense", "tanh")


def classifier_head(num_class: int) -> Head:
    """Logits of a sentence, see `BertCLSModel`."""
    def build(graph: OnnxGraph, hidden: str) -> None:
        graph.dense(_pooled(graph, hidden), "dense_1", output="logits")

    return Head(build, {"logits": ("FLOAT", ("batch", num_class))})


def squad_head() -> Head:
    """Scores of every token as start and as end, see `BertSquadModel`."""
    def build(graph: OnnxGraph, hidden: str) -> None:
        logits = graph.dense(hidden, "dense1")  # [B,S,2]
        graph.add("Gather", logits, 0, axis=2, name="start_logits")
        graph.add("Gather", logits, 1, axis=2, name="end_logits")

    return Head(build, dict.fromkeys(("start_logits", "end_logits"), ("FLOAT", ("batch", "sequence"))))


def pretraining_head(config: BertConfig) -> Head:
    """Scores of the words at the masked positions and of the second segment, see `BertPreTraining`."""
    def build(graph: OnnxGraph, hidden: str) -> None:
        positions = graph.add("Cast", graph.add("Unsqueeze", "masked_lm_positions", [2]), to=_INT64)  # [B,P,1]
        x = graph.add("GatherND", hidden, positions, batch_dims=1)  # [B,P,H]
        x = graph.add("Reshape", x, [-1, config.hidden_size])  # [B*P,H]
        x = graph.layer_norm(graph.dense(x, "cls1.dense", config.hidden_act), "cls1.layernorm")
        table = graph.weight("bert.bert_embedding_lookup.embedding_table")
        graph.add("Gemm", x, table, graph.weight("cls1.output_bias"), transB=1, name="prediction_scores")
        graph.dense(_pooled(graph, hidden), "cls2.dense", output="seq_relationship_score")

    outputs = {"prediction_scores": ("FLOAT", ("predictions", config.vocab_size)),
               "seq_relationship_score": ("FLOAT", ("batch", 2))}
    return Head(build, outputs, {"masked_lm_positions": ("INT32", ("batch", "positions"))})


def ner_head(num_tags: int, use_crf: bool, with_lstm: bool) -> Head:
    """Tags of tokens, 0 at padding, see `BertNERTagger`; and the scores that they were found by.

    Args:
        num_tags: K, without the two states of the CRF.
        use_crf: whether the tags are the best sequence, else each is the best by itself.
        with_lstm: whether a bidirectional LSTM reads the hidden states first.
    """
    def build(graph: OnnxGraph, hidden: str) -> None:
        states = _lstm(graph, hidden) if with_lstm else hidden
        scores = graph.dense(states, "dense_1", output="logits")
        tags = _best_path(graph, scores, num_tags) if use_crf else graph.add("ArgMax", scores, axis=2, keepdims=0)
        graph.add("Mul", graph.add("Cast", tags, to=_INT32), "input_mask", name="tags")

    logits = {"logits": ("FLOAT", ("batch", "sequence", num_tags + 2 * use_crf))}
    return Head(build, {"tags": TOKENS}, further_outputs=logits)


def _lstm(graph: OnnxGraph, hidden: str) -> str:
    """States of both directions side by side, [B,S,H] to [B,S,2L]; 0 at padding. See `BidirectionalLSTM`."""
    def both(name: str) -> np.ndarray:
        """Parameters [4L,…] of both directions, their gates in ONNX's order, [2,4L,…]."""
        directions = [graph.weights[f"lstm.{name}_l0{ending}"] for ending in ("", "_reverse")]
        parts = [np.split(values, 4) for values in directions]  # input, forget, cell, output
        return np.stack([np.concatenate((i, o, f, c)) for i, f, c, o in parts])

    biases = np.concatenate((both("bias_ih"), both("bias_hh")), axis=1)  # [2,8L]
    size = biases.shape[1] // 8
    lengths = graph.add("ReduceSum", "input_mask", [1], keepdims=0)  # [B]
    steps = graph.add("Transpose", hidden, perm=(1, 0, 2))  # [S,B,H]
    states, _, _ = graph.add("LSTM", steps, both("weight_ih"), both("weight_hh"), biases, lengths, outputs=3,
                             direction="bidirectional", hidden_size=size)  # [S,2,B,L]
    return graph.add("Reshape", graph.add("Transpose", states, perm=(2, 0, 1, 3)), [0, 0, 2 * size])


def _best_path(graph: OnnxGraph, scores: str, num_tags: int) -> str:
    """The best sequences of tags, int64 [B,S], for scores [B,S,K+2], see `CRF.decode`."""
    transitions = graph.weights["loss.transitions"]  # to, from
    start, stop, moves = transitions[:num_tags, -2], transitions[-1, :num_tags], transitions[:num_tags, :num_tags]

    def forward(inner: OnnxGraph, reached: str, emitted: str, is_token: str) -> tuple[list[str], str]:
        """Scores [B,K] of the best path to each tag, and the tag before it [B,K]."""
        candidates = inner.add("Add", inner.add("Unsqueeze", reached, [1]), moves)  # [B,K,K]
        longer = inner.add("Add", inner.add("ReduceMax", candidates, axes=[2], keepdims=0), emitted)
        before = inner.add("ArgMax", candidates, axis=2, keepdims=0)
        return ([inner.add("Where", is_token, longer, reached)],
                inner.add("Where", is_token, before, np.arange(num_tags)))

    def backward(inner: OnnxGraph, tag: str, before: str) -> tuple[list[str], str]:
        """The tag before [B,1], and the tag itself."""
        return [inner.add("GatherElements", before, tag, axis=1)], inner.add("Identity", tag)

    emitted = graph.add("Slice", graph.add("Transpose", scores, perm=(1, 0, 2)), [0], [num_tags], [2])  # [S,B,K]
    first = graph.add("Add", graph.add("Gather", emitted, 0, axis=0), start)  # [B,K]
    # The first step is taken outside of the loop; inside it changes nothing, as if it were padding.
    is_later = graph.add("Greater", graph.add("Range", 0, graph.add("Squeeze", _length(graph)), 1), 0)  # [S]
    is_token = graph.add("And", graph.add("Cast", "input_mask", to=_BOOL), is_later)  # [B,S]
    is_token = graph.add("Unsqueeze", graph.add("Transpose", is_token, perm=(1, 0)), [2])  # [S,B,1]
    reached, pointers = graph.scan(forward, {first: "FLOAT"}, {emitted: "FLOAT", is_token: "BOOL"}, "INT64")
    last = graph.add("ArgMax", graph.add("Add", reached, stop), axis=1, keepdims=1)  # [B,1]
    _, path = graph.scan(backward, {last: "INT64"}, {pointers: "INT64"}, "INT64", backward=True)  # [S,B,1]
    return graph.add("Transpose", graph.add("Squeeze", path, [2]), perm=(1, 0))
