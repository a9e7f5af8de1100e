"""The head of question answering in ONNX. Shapes at line ends: B batch, S sequence."""

from src.onnx_graph import Head, OnnxGraph


def squad_head() -> Head:
    """Scores of every token as start and as end, see `BertSquadModel`."""
    def build(graph: OnnxGraph, hidden: str) -> None:
        logits = graph.dense(hidden, "dense1")  # [B,S,2]
        graph.add("Gather", logits, 0, axis=2, name="start_logits")
        graph.add("Gather", logits, 1, axis=2, name="end_logits")

    return Head(build, dict.fromkeys(("start_logits", "end_logits"), ("FLOAT", ("batch", "sequence"))))
