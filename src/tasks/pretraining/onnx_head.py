"""The heads of pre-training in ONNX. Shapes at line ends: B batch, P masked positions, H hidden, V vocabulary."""

from src.bert_model import BertConfig
from src.onnx_graph import Head, OnnxGraph

_INT64 = 7  # the number of ONNX for the type


def pretraining_head(config: BertConfig) -> Head:
    """Scores of the words at the masked positions and of the second segment, see `BertPreTraining`."""
    def build(graph: OnnxGraph, hidden: str) -> None:
        positions = graph.add("Cast", graph.add("Unsqueeze", "masked_lm_positions", [2]), to=_INT64)  # [B,P,1]
        x = graph.add("GatherND", hidden, positions, batch_dims=1)  # [B,P,H]
        x = graph.add("Reshape", x, [-1, config.hidden_size])  # [B*P,H]
        x = graph.layer_norm(graph.dense(x, "cls1.dense", config.hidden_act), "cls1.layernorm")
        table = graph.weight("bert.bert_embedding_lookup.embedding_table")
        graph.add("Gemm", x, table, graph.weight("cls1.output_bias"), transB=1, name="prediction_scores")  # [B*P,V]
        graph.dense(graph.pooled(hidden), "cls2.dense", output="seq_relationship_score")  # [B,2]

    outputs = {"prediction_scores": ("FLOAT", ("predictions", config.vocab_size)),
               "seq_relationship_score": ("FLOAT", ("batch", 2))}
    return Head(build, outputs, {"masked_lm_positions": ("INT32", ("batch", "positions"))})
