"""BERT (Devlin et al. 2018) and NEZHA (Wei et al. 2019) encoders.

Shapes at line ends: B batch, S sequence (F where it queries, T where it is attended to), N heads, D width of a head,
H = N * D hidden, V vocabulary, K the distance at which relative positions are clipped.

Cells and parameters carry the names of the published checkpoints. Matrix products run in `compute_type`; the residual
stream, softmax and layer normalisation stay in float32. Batch and sequence length come from the inputs.
"""

import math
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, lazy_inline, nn, ops

from src.device_forms import device_forms
from src.dropout import Dropout
from src.errors import UserError
from src.initialization import random_weight
from src.layers import Dense, LayerNorm, cpu_cells, get_activation, tensor_type, uses_cpu_kernels

# Where the distance between two tokens is clipped: the published MindSpore checkpoints, and the paper.
DEFAULT_MAX_RELATIVE_POSITION = {"learned": 16, "sinusoidal": 64}

FLOAT_TYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}

# Added to the score of a padding token: exp(-10000) is exactly 0 in float32, and float16 can hold it.
MASKED_SCORE = -10000.0


def float_type(value: Any, option: str) -> Any:
    """Return the MindSpore type for "float16", "mstype.float16" or `mindspore.float16`; likewise float32, bfloat16."""
    name = str(value).lower().rpartition(".")[2]
    if name not in FLOAT_TYPES:
        raise UserError(f"{option}: unknown type '{value}'; choose one of {', '.join(FLOAT_TYPES)}")
    return FLOAT_TYPES[name]


@dataclass(frozen=True)
class BertConfig:
    """The shape of a network. `seq_length` is that of the data; the network itself takes any length.

    With `use_relative_positions` (NEZHA), `relative_position_kind` says which vectors stand for the distance between
    two tokens: "learned", a table per layer as in the published MindSpore checkpoints, or "sinusoidal", fixed as in
    the paper. `max_relative_position` clips the distance; None means 16 for learned and 64 for sinusoidal.

    Raises:
        UserError: a value is out of range, unknown, or does not fit another.
    """

    seq_length: int = 128
    vocab_size: int = 32000
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 16
    initializer_range: float = 0.02
    use_relative_positions: bool = False
    dtype: Any = ms.float32
    compute_type: Any = ms.float32
    relative_position_kind: str = "learned"
    max_relative_position: int | None = None

    def __post_init__(self):
        """Check every value and bring the types into MindSpore's form."""
        for option in ("dtype", "compute_type"):
            object.__setattr__(self, option, float_type(getattr(self, option), option))
        if self.relative_position_kind not in DEFAULT_MAX_RELATIVE_POSITION:
            raise UserError(f"relative_position_kind: unknown kind '{self.relative_position_kind}'; "
                            f"choose one of {', '.join(DEFAULT_MAX_RELATIVE_POSITION)}")
        if self.max_relative_position is None:
            object.__setattr__(self, "max_relative_position",
                               DEFAULT_MAX_RELATIVE_POSITION[self.relative_position_kind])
        for option in ("seq_length", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                       "intermediate_size", "max_position_embeddings", "type_vocab_size", "max_relative_position"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{option}: found {value!r}, expected a whole number of at least 1")
        for option in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, option)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(f"{option}: found {value!r}, expected a number from 0 up to, not including, 1")
        if not isinstance(self.initializer_range, int | float) or self.initializer_range < 0:
            raise UserError(f"initializer_range: found {self.initializer_range!r}, expected a number not below 0")
        if not isinstance(self.use_relative_positions, bool):
            raise UserError(f"use_relative_positions: found {self.use_relative_positions!r}, expected True or False")
        get_activation(self.hidden_act)
        if self.hidden_size % self.num_attention_heads:
            raise UserError(f"hidden_size: {self.hidden_size} cannot be divided among num_attention_heads "
                            f"{self.num_attention_heads}; give a multiple of it")
        sinusoidal = self.use_relative_positions and self.relative_position_kind == "sinusoidal"
        if sinusoidal and self.size_per_head % 2:
            raise UserError(f"hidden_size: {self.hidden_size} gives heads of {self.size_per_head} numbers, but "
                            f"sinusoidal relative positions need an even number; change num_attention_heads")
        if not self.use_relative_positions and self.seq_length > self.max_position_embeddings:
            raise UserError(f"seq_length: {self.seq_length} is longer than max_position_embeddings "
                            f"{self.max_position_embeddings}; shorten the sequences or raise max_position_embeddings")

    @property
    def size_per_head(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


class Embedding(nn.Cell):
    """A table of vectors [rows, width] looked up by id, at first random with deviation `initializer_range`."""

    def __init__(self, rows: int, width: int, use_one_hot: bool = False, initializer_range: float = 0.02):
        super().__init__()
        self.rows = rows
        self.use_one_hot = use_one_hot
        self.embedding_table = Parameter(random_weight((rows, width), initializer_range), name="embedding_table")

    def construct(self, ids: Tensor) -> Tensor:
        """Map ids [...] to vectors [..., width]."""
        if self.use_one_hot:
            return ops.matmul(ops.one_hot(ids, self.rows, 1.0, 0.0), self.embedding_table)
        return ops.gather(self.embedding_table, ids, 0)


class EmbeddingPostprocessor(nn.Cell):
    """Add token type and position vectors to the word vectors, then normalise.

    The position table exists with relative positions as well, because the checkpoints hold it; it is not used then.
    """

    def __init__(self, config: BertConfig, dropout: float, use_one_hot_embeddings: bool = False):
        super().__init__()
        self.use_absolute_positions = not config.use_relative_positions
        self.token_type_embedding = Embedding(config.type_vocab_size, config.hidden_size, use_one_hot_embeddings,
                                              config.initializer_range)
        self.full_position_embedding = Embedding(config.max_position_embeddings, config.hidden_size,
                                                 initializer_range=config.initializer_range)
        self.layernorm = LayerNorm(config.hidden_size)
        self.dropout = Dropout(dropout)

    def construct(self, token_type_ids: Tensor, word_embeddings: Tensor) -> Tensor:
        """Map token_type_ids [B,S] and word_embeddings [B,S,H] to [B,S,H]."""
        x = word_embeddings + self.token_type_embedding(token_type_ids)  # [B,S,H]
        if self.use_absolute_positions:
            x = x + self.full_position_embedding.embedding_table[:x.shape[1]]  # [S,H] broadcasts over B
        return self.dropout(self.layernorm(x))


class LearnedRelativePositions(nn.Cell):
    """A vector per clipped distance, learned, for one layer."""

    def __init__(self, max_relative_position: int, size_per_head: int, initializer_range: float):
        super().__init__()
        shape = 2 * max_relative_position + 1, size_per_head
        self.embeddings_table = Parameter(random_weight(shape, initializer_range), name="embeddings_table")

    def construct(self, distances: Tensor) -> Tensor:
        """Map shifted distances [F,T] to vectors [F,T,D]."""
        return ops.gather(self.embeddings_table, distances, 0)


def sinusoidal_table(max_relative_position: int, size_per_head: int) -> np.ndarray:
    """Return NEZHA's fixed vectors [2K+1,D] of the shifted distances: sines in the even columns, cosines in the odd."""
    distances = np.arange(2 * max_relative_position + 1)[:, None]
    angles = distances / 10000.0 ** (np.arange(0, size_per_head, 2) / size_per_head)  # [2K+1,D/2]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(distances), -1).astype(np.float32)


def _square_dense(config: BertConfig, activation: str | None = None) -> Dense:
    return Dense(config.hidden_size, config.hidden_size, activation, config.initializer_range, config.compute_type)


class BertAttention(nn.Cell):
    """Scaled dot-product attention of every token to every token that is not padding.

    With relative positions (Shaw et al. 2018) a vector r[f,t] for the distance from f to t is added to both the key
    and the value that query f sees at t.
    """

    def __init__(self, config: BertConfig, dropout: float):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.size_per_head = config.size_per_head
        self.hidden_size = config.hidden_size
        self.scale = 1.0 / math.sqrt(config.size_per_head)
        self.compute_type = tensor_type(config.compute_type)
        self.query_layer = _square_dense(config)
        self.key_layer = _square_dense(config)
        self.value_layer = _square_dense(config)
        self.softmax = device_forms().softmax()
        self.dropout = Dropout(dropout)
        self.scores_of = ops.BatchMatMul(transpose_b=True)
        self.weighted_sum = ops.BatchMatMul()
        self.use_relative_positions = config.use_relative_positions
        self.has_own_table = config.use_relative_positions and config.relative_position_kind == "learned"
        if self.has_own_table:
            self._generate_relative_positions_embeddings = LearnedRelativePositions(
                config.max_relative_position, config.size_per_head, config.initializer_range)

    def construct(self, x: Tensor, additive_mask: Tensor, relative: Tensor | None, number: Tensor) -> Tensor:
        """Map x [B*S,H], additive_mask, relative and number (see `BertTransformer`) to values [B*S,H].

        additive_mask is [B,1,1,S] or [B,N,S,S].
        """
        heads = (-1, additive_mask.shape[-1], self.num_heads, self.size_per_head)
        # Scaling the queries instead of the scores touches D instead of T numbers per query.
        query = (self.query_layer(x) * self.scale).reshape(heads).transpose(0, 2, 1, 3)  # [B,N,F,D]
        key = self.key_layer(x).reshape(heads).transpose(0, 2, 1, 3)  # [B,N,T,D]
        value = self.value_layer(x).reshape(heads).transpose(0, 2, 1, 3)  # [B,N,T,D]

        scores = self.scores_of(query, key)  # [B,N,F,T]
        if self.use_relative_positions:
            r = self._generate_relative_positions_embeddings(relative) if self.has_own_table else relative
            r = r.astype(self.compute_type)  # [F,T,D]
            scores = scores + self.per_query(self.scores_of, query, r)
        probs = self.softmax(scores.astype(ms.float32) + additive_mask)
        probs = self.dropout(probs.astype(self.compute_type), number)  # [B,N,F,T]
        context = self.weighted_sum(probs, value)  # [B,N,F,D]
        if self.use_relative_positions:
            context = context + self.per_query(self.weighted_sum, probs, r)
        return context.transpose(0, 2, 1, 3).reshape((-1, self.hidden_size))  # [B*F,H]

    def per_query(self, product: ops.BatchMatMul, x: Tensor, r: Tensor) -> Tensor:
        """Multiply x [B,N,F,.] for each query f by the matrix r[f]: a batch of F products with B*N rows each."""
        length = x.shape[2]
        rows = x.transpose(2, 0, 1, 3).reshape((length, -1, x.shape[3]))  # [F,B*N,.]
        y = product(rows, r)  # [F,B*N,.]
        return y.reshape((length, -1, self.num_heads, y.shape[2])).transpose(1, 2, 0, 3)  # [B,N,F,.]


class BertOutput(nn.Cell):
    """Project back to the hidden width, add the residual, normalise."""

    def __init__(self, in_channels: int, config: BertConfig, dropout: float):
        super().__init__()
        self.dense = Dense(in_channels, config.hidden_size, initializer_range=config.initializer_range,
                           compute_type=config.compute_type)
        self.dropout = Dropout(dropout)
        self.layernorm = LayerNorm(config.hidden_size)

    def construct(self, x: Tensor, residual: Tensor, number: Tensor) -> Tensor:
        """Map x [B*S,in_channels] and residual [B*S,H] to [B*S,H] float32."""
        return self.layernorm(self.dropout(self.dense(x), number).astype(ms.float32) + residual)


class BertSelfAttention(nn.Cell):
    """Attention with its output projection and residual."""

    def __init__(self, config: BertConfig, attention_dropout: float, hidden_dropout: float):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.attention = BertAttention(config, attention_dropout)
        self.output = BertOutput(config.hidden_size, config, hidden_dropout)
        self.uses_kernel = uses_cpu_kernels(config.compute_type)
        if self.uses_kernel:
            self.kernel = cpu_cells().Attention(config.num_attention_heads, config.compute_type,
                                                self.attention.has_own_table)
            self.no_table = cpu_cells().NO_TABLE

    def construct(self, x: Tensor, additive_mask: Tensor, relative: Tensor | None, number: Tensor) -> Tensor:
        """Map x [B*S,H] to [B*S,H]."""
        if self.uses_kernel:
            return self.fused(x, additive_mask, self.table(relative), number)
        return self.output(self.attention(x.astype(self.compute_type), additive_mask, relative, number), x, number)

    def table(self, relative: Tensor | None) -> Tensor:
        """Return the vectors of all distances [2K+1,D]; without relative positions what stands for none."""
        if self.attention.has_own_table:
            return self.attention._generate_relative_positions_embeddings.embeddings_table
        return self.no_table if relative is None else relative

    def fused(self, x: Tensor, additive_mask: Tensor, table: Tensor, number: Tensor) -> Tensor:
        """Do the same with one operator; additive_mask is [B,1,1,S]."""
        query, key, value = self.attention.query_layer, self.attention.key_layer, self.attention.value_layer
        dense, norm = self.output.dense, self.output.layernorm
        return self.kernel(
            x, query.weight, key.weight, value.weight, dense.weight, query.bias, key.bias, value.bias, dense.bias,
            norm.gamma, norm.beta, table, additive_mask.reshape((-1, additive_mask.shape[3])),
            *self.attention.dropout.key_and_rate(number), *self.output.dropout.key_and_rate(number))


class BertEncoderCell(nn.Cell):
    """One transformer block: attention, then the feed-forward network, each normalised after its residual."""

    # The compiler works on one layer and copies it, so that BERT-base compiles in half the time.
    @lazy_inline(policy="front")
    def __init__(self, config: BertConfig, attention_dropout: float, hidden_dropout: float):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.attention = BertSelfAttention(config, attention_dropout, hidden_dropout)
        self.intermediate = Dense(config.hidden_size, config.intermediate_size, config.hidden_act,
                                  config.initializer_range, config.compute_type)
        self.output = BertOutput(config.intermediate_size, config, hidden_dropout)
        self.uses_kernel = uses_cpu_kernels(config.compute_type) and config.hidden_act == "gelu"
        if self.uses_kernel:
            self.kernel = cpu_cells().FeedForward(config.compute_type)

    def construct(self, x: Tensor, additive_mask: Tensor, relative: Tensor | None, number: Tensor) -> Tensor:
        """Map x [B*S,H] to [B*S,H]."""
        x = self.attention(x, additive_mask, relative, number)
        if self.uses_kernel:
            dense, norm = self.output.dense, self.output.layernorm
            return self.kernel(x, self.intermediate.weight, self.intermediate.bias, dense.weight, dense.bias,
                               norm.gamma, norm.beta, *self.output.dropout.key_and_rate(number))
        return self.output(self.intermediate(x.astype(self.compute_type)), x, number)


class BertTransformer(nn.Cell):
    """The stack of blocks, and what they share: the mask and the relative positions.

    `relative` is what a block needs of the distances t - f, clipped to [-K, K] and shifted to start at 0: themselves
    [F,T] when each block has its own learned table, their vectors [F,T,D] when these are fixed (where attention is one
    operator the table of all vectors [2K+1,D]), None without relative positions. `number` [1,1] counts the blocks, so
    that each has its own dropout.
    """

    def __init__(self, config: BertConfig, attention_dropout: float, hidden_dropout: float):
        super().__init__()
        self.uses_kernel = uses_cpu_kernels(config.compute_type)
        self.tiles_mask = device_forms().tiles_mask
        self.num_heads = config.num_attention_heads
        self.use_relative_positions = config.use_relative_positions
        self.max_relative_position = config.max_relative_position
        self.fixed_table = None
        if config.use_relative_positions and config.relative_position_kind == "sinusoidal":
            self.fixed_table = Tensor(sinusoidal_table(config.max_relative_position, config.size_per_head))
        self.layers = nn.CellList([BertEncoderCell(config, attention_dropout, hidden_dropout)
                                   for _ in range(config.num_hidden_layers)])

    def construct(self, embeddings: Tensor, input_mask: Tensor) -> Tensor:
        """Map embeddings [B,S,H] and input_mask [B,S] (1 token, 0 padding) to hidden states [B,S,H]."""
        length = input_mask.shape[1]
        mask = input_mask.reshape((-1, 1, 1, length)).astype(ms.float32)
        additive_mask = (1.0 - mask) * MASKED_SCORE  # [B,1,1,T]
        # Once for all blocks: a sum that broadcasts takes more memory, see `src.cpu_forms.spread`.
        if self.tiles_mask and not self.uses_kernel:
            additive_mask = ops.tile(additive_mask, (1, self.num_heads, length, 1))  # [B,N,F,T]
        relative = self.relative_positions(length) if self.use_relative_positions else None
        x = embeddings.reshape((-1, embeddings.shape[-1]))  # [B*S,H]: two axes are the fastest for every product
        layer_index = first_layer_index(input_mask)  # [1,1]
        for layer in self.layers:
            x = layer(x, additive_mask, relative, layer_index)
            layer_index = layer_index + 1
        return x.reshape(embeddings.shape)

    def relative_positions(self, length: int) -> Tensor:
        """Return `relative` for sequences of this length."""
        if self.uses_kernel and self.fixed_table is not None:
            return self.fixed_table
        k = self.max_relative_position
        positions = ops.arange(length)
        distances = ops.clamp(positions - positions.reshape((-1, 1)), -k, k) + k  # [F,T]
        return distances if self.fixed_table is None else ops.gather(self.fixed_table, distances, 0)


def first_layer_index(input_mask: Tensor) -> Tensor:
    """Return 0, int32 [1,1], that is no constant: for every constant the compiler would make another graph of a layer.
    """
    return input_mask[:1, :1] * 0


class BertModel(nn.Cell):
    """The encoder with its embeddings and pooler.

    Without `is_training` there is no dropout, whatever `set_train` says. `use_one_hot_embeddings` looks words and
    token types up by matrix products, which some devices do faster than gathers. The weights are random at first, a
    truncated normal distribution with the standard deviation `config.initializer_range` (see `src.initialization`).
    """

    def __init__(self, config: BertConfig, is_training: bool, use_one_hot_embeddings: bool = False):
        super().__init__()
        hidden_dropout = config.hidden_dropout_prob if is_training else 0.0
        attention_dropout = config.attention_probs_dropout_prob if is_training else 0.0
        self.dtype = config.dtype
        self.uses_kernel = False
        self.compute_type = tensor_type(config.compute_type)
        self.bert_embedding_lookup = Embedding(config.vocab_size, config.hidden_size, use_one_hot_embeddings,
                                               config.initializer_range)
        self.bert_embedding_postprocessor = EmbeddingPostprocessor(config, hidden_dropout, use_one_hot_embeddings)
        self.bert_encoder = BertTransformer(config, attention_dropout, hidden_dropout)
        self.dense = _square_dense(config, "tanh")

    def share_table(self) -> None:
        """Prepare for a head that scores words by the embedding table in training: on CPU both gradients meet here."""
        self.uses_kernel = uses_cpu_kernels() and not self.bert_embedding_lookup.use_one_hot
        if self.uses_kernel:
            self.shared_table = cpu_cells().SharedTable()

    def construct(self, input_ids: Tensor, token_type_ids: Tensor, input_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a batch.

        Args:
            input_ids: int32 [B,S].
            token_type_ids: int32 [B,S], 0 for the first and 1 for the second segment.
            input_mask: int32 [B,S], 1 for a token and 0 for padding.

        Returns:
            The hidden states of the last layer [B,S,H], the pooled first token [B,H], both in `config.dtype`, and the
            word embedding table [V,H], which the masked-language-model head shares.
        """
        table = self.bert_embedding_lookup.embedding_table  # [V,H]
        if self.uses_kernel:
            words, table = self.shared_table(table, input_ids)
        else:
            words = self.bert_embedding_lookup(input_ids)  # [B,S,H]
        embeddings = self.bert_embedding_postprocessor(token_type_ids, words)
        hidden = self.bert_encoder(embeddings, input_mask)  # [B,S,H]
        pooled = self.dense(hidden[:, 0].astype(self.compute_type))  # [B,H]
        return hidden.astype(self.dtype), pooled.astype(self.dtype), table
