"""The head of sentence classification in ONNX. Shapes at line ends: B batch, H hidden, C classes."""

from src.onnx_graph import Head, OnnxGraph


def classifier_head(num_class: int) -> Head:
    """Logits of a sentence, see `BertCLSModel`."""
    def build(graph: OnnxGraph, hidden: str) -> None:
        graph.dense(graph.pooled(hidden), "dense_1", output="logits")  # [B,C]

    return Head(build, {"logits": ("FLOAT", ("batch", num_class))})
