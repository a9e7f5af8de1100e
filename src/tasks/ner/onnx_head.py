"""The head of named-entity recognition in ONNX, with its LSTM and the decoding of its CRF.

Shapes at line ends: B batch, S sequence, H hidden, L width of the LSTM, K tags.
"""

import numpy as np

from src.onnx_graph import TOKENS, Head, OnnxGraph

_INT32, _BOOL = 6, 9  # the numbers of ONNX for types


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
    states, _, _ = graph.add_many("LSTM", steps, both("weight_ih"), both("weight_hh"), biases, lengths, outputs=3,
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
    is_later = graph.add("Greater", graph.add("Range", 0, graph.add("Squeeze", graph.sequence_length()), 1), 0)  # [S]
    is_token = graph.add("And", graph.add("Cast", "input_mask", to=_BOOL), is_later)  # [B,S]
    is_token = graph.add("Unsqueeze", graph.add("Transpose", is_token, perm=(1, 0)), [2])  # [S,B,1]
    reached, pointers = graph.scan(forward, {first: "FLOAT"}, {emitted: "FLOAT", is_token: "BOOL"}, "INT64")
    last = graph.add("ArgMax", graph.add("Add", reached, stop), axis=1, keepdims=1)  # [B,1]
    _, path = graph.scan(backward, {last: "INT64"}, {pointers: "INT64"}, "INT64", backward=True)  # [S,B,1]
    return graph.add("Transpose", graph.add("Squeeze", path, [2]), perm=(1, 0))
