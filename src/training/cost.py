"""What a training needs at least, by the sizes of its network; `benchmarks/cost_model.py` compares it with machines.

Notation: B sequences of S tokens per device, P masked positions of a sequence, L layers, H hidden, I intermediate,
N heads, V vocabulary, c bytes of compute_type, W weights (`parameters`).

Memory of a device (`memory`): weights 4 W, optimizer state 4 W for each of its moments, gradients 4 W, copies of the
weights in compute_type c W when that is not float32, and what the backward pass needs of the forward pass, in bytes:
    a layer, per token: c H of its input, query, key, value, context, input of the feed-forward block and two dropout
        masks; 4 H of each of two normalised sums; of N S scores the softmax (4), its mask and its product (2 c);
        3 c I of the activation's input, gate and output
    embeddings, per token: 8 H (normalised sum and mask)
    masked-LM head, per position: V (8 + c) of logits, their log softmax and its gradient
Activations are freed while gradients are made, so the larger of the two counts, and the gradients of the word
embeddings, which come first and again last.
"""

from typing import Any, NamedTuple

MOMENTS = {"Lamb": 2, "AdamWeightDecay": 2, "Momentum": 1}  # numbers of optimizer state per weight
CLIP_OF_LEARNED_POSITIONS = 16  # distances up to this have vectors of their own, to either side


class Workload(NamedTuple):
    """A pre-training run: `net` has the fields of a group `*_net_cfg`, or is a `BertConfig`."""

    net: Any
    batch_size: int  # per device
    seq_length: int
    devices: int = 1
    optimizer: str = "Lamb"
    predictions: int = 20


def parameters(net: Any) -> int:
    """Number of weights of the pre-training network, both heads included."""
    hidden, inner = net.hidden_size, net.intermediate_size
    norm = 2 * hidden
    embeddings = (net.vocab_size + net.max_position_embeddings + net.type_vocab_size) * hidden + norm
    layer = 4 * (hidden + 1) * hidden + norm + (hidden + 1) * inner + (inner + 1) * hidden + norm
    if _has_learned_positions(net):
        layer += (2 * CLIP_OF_LEARNED_POSITIONS + 1) * (hidden // net.num_attention_heads)
    pooler = (hidden + 1) * hidden
    heads = (hidden + 1) * hidden + norm + net.vocab_size + 2 * (hidden + 1)
    return embeddings + net.num_hidden_layers * layer + pooler + heads


def _has_learned_positions(net: Any) -> bool:
    return net.use_relative_positions and net.relative_position_kind == "learned"


def layer_activations(run: Workload, c: int) -> int:
    """Bytes that one layer keeps for its backward pass, on one device; c is the bytes of compute_type."""
    net, hidden, length = run.net, run.net.hidden_size, run.seq_length
    per_token = 8 * c * hidden + 2 * 4 * hidden + (4 + 2 * c) * net.num_attention_heads * length
    per_token += 3 * c * net.intermediate_size
    total = run.batch_size * length * per_token
    if net.use_relative_positions:  # queries and probabilities by position, and a vector for each pair of positions
        total += c * run.batch_size * length * (hidden + net.num_attention_heads * length)
        total += c * length**2 * (hidden // net.num_attention_heads)
    return total


def activations(run: Workload, c: int) -> int:
    """Bytes that the backward pass needs of the forward pass, on one device."""
    embeddings = 8 * run.batch_size * run.seq_length * run.net.hidden_size
    words = (8 + c) * run.batch_size * run.predictions * run.net.vocab_size
    return embeddings + run.net.num_hidden_layers * layer_activations(run, c) + words


def memory(run: Workload, c: int) -> dict[str, int]:
    """Bytes on one device by purpose, and their `total`."""
    weights = parameters(run.net)
    parts = {"weights": 4 * weights, "state": 4 * weights * MOMENTS[run.optimizer], "gradients": 4 * weights,
             "copies": c * weights if c < 4 else 0, "activations": activations(run, c)}
    table = 4 * run.net.vocab_size * run.net.hidden_size
    working = max(parts["gradients"], parts["activations"] + table)
    return parts | {"total": parts["weights"] + parts["state"] + parts["copies"] + working + table}


def cpu_memory(run: Workload, times: float, base: float) -> float:
    """Bytes of a process that keeps the activations `times` over and `base` for itself."""
    return base + 4 * parameters(run.net) * (2 + MOMENTS[run.optimizer]) + times * activations(run, 4)
