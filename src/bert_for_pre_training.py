"""The two pre-training tasks of BERT: masked language model and next sentence prediction.

Shapes at line ends: B batch, S sequence, P masked positions of a sequence, H hidden, V vocabulary.
"""

from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.bert_model import BertConfig, BertModel
from src.device_forms import device_forms
from src.initialization import truncated_normal
from src.layers import Dense, LayerNorm, cpu_cells, tensor_type, uses_cpu_kernels


class GetMaskedLMOutput(nn.Cell):
    """Score every word of the vocabulary at the masked positions; the output weights are the word embeddings."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.dense = Dense(config.hidden_size, config.hidden_size, config.hidden_act, config.initializer_range,
                           config.compute_type)
        self.layernorm = LayerNorm(config.hidden_size)
        self.output_bias = Parameter(Tensor(np.zeros(config.vocab_size, np.float32)), name="output_bias")
        self.matmul = ops.MatMul(transpose_b=True)
        self.bias_add = device_forms().bias_add()
        self.uses_kernel = uses_cpu_kernels(config.compute_type)
        if self.uses_kernel:
            self.kernel = cpu_cells().DenseProduct(config.compute_type)

    def construct(self, hidden: Tensor, embedding_table: Tensor, positions: Tensor) -> Tensor:
        """Map hidden [B,S,H], embedding_table [V,H] and positions int32 [B,P] to float32 logits [B*P,V]."""
        batch, length, width = hidden.shape
        first_rows = (ops.arange(batch) * length).astype(positions.dtype).reshape((-1, 1))  # [B,1]
        rows = (positions + first_rows).reshape((-1,))  # [B*P]
        x = ops.gather(hidden.reshape((-1, width)), rows, 0).astype(self.compute_type)  # [B*P,H]
        x = self.layernorm(self.dense(x))
        if self.uses_kernel:
            return self.kernel(x, embedding_table, self.output_bias)
        logits = self.matmul(x, embedding_table.astype(self.compute_type))  # [B*P,V]
        return self.bias_add(logits.astype(ms.float32), self.output_bias)


class GetNextSentenceOutput(nn.Cell):
    """Score whether the second segment follows the first: class 0 it does, class 1 it is random."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.dense = Dense(config.hidden_size, 2, initializer_range=config.initializer_range,
                           compute_type=config.compute_type)

    def construct(self, pooled: Tensor) -> Tensor:
        """Map pooled [B,H] to float32 logits [B,2]."""
        return self.dense(pooled.astype(self.compute_type)).astype(ms.float32)


class BertPreTraining(nn.Cell):
    """The encoder with both heads."""

    def __init__(self, config: BertConfig, is_training: bool, use_one_hot_embeddings: bool = False):
        super().__init__()
        self.bert = BertModel(config, is_training, use_one_hot_embeddings)
        self.bert.share_table()
        self.cls1 = GetMaskedLMOutput(config)
        self.cls2 = GetNextSentenceOutput(config)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor,
                  masked_lm_positions: Tensor) -> tuple[Tensor, Tensor]:
        """Map input columns [B,S] and positions [B,P] to logits [B*P,V] and [B,2], float32."""
        hidden, pooled, embedding_table = self.bert(input_ids, token_type_id, input_mask)
        return self.cls1(hidden, embedding_table, masked_lm_positions), self.cls2(pooled)


class CrossEntropy(nn.Cell):
    """Negative log likelihood of each row's label.

    Gathering from the log softmax is three times as fast on a CPU as a product with one-hot labels.
    """

    def __init__(self):
        super().__init__()
        self.log_softmax = ops.LogSoftmax(axis=-1)
        self.uses_kernel = uses_cpu_kernels()
        if self.uses_kernel:
            self.kernel = cpu_cells().CrossEntropy()

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Map logits float32 [R,C] and labels int32, R of them in any shape, to losses [R]."""
        if self.uses_kernel:
            return self.kernel(logits, labels.reshape((-1,)))
        return -ops.gather_elements(self.log_softmax(logits), 1, labels.reshape((-1, 1))).reshape((-1,))


class BertPretrainingLoss(nn.Cell):
    """Masked-language-model loss, the mean over the weighted positions, plus the mean next sentence loss."""

    def __init__(self):
        super().__init__()
        self.cross_entropy = CrossEntropy()

    def construct(self, prediction_scores: Tensor, seq_relationship_score: Tensor, masked_lm_ids: Tensor,
                  masked_lm_weights: Tensor, next_sentence_labels: Tensor) -> Tensor:
        """Map logits [B*P,V] and [B,2] with their labels [B,P], [B,P] and [B,1] to the loss, a float32 scalar."""
        weights = masked_lm_weights.reshape((-1,)).astype(ms.float32)  # [B*P]
        masked_lm_losses = self.cross_entropy(prediction_scores, masked_lm_ids)  # [B*P]
        # BERT's 1e-5 keeps a batch without a masked position from dividing by zero.
        masked_lm_loss = (masked_lm_losses * weights).sum() / (weights.sum() + 1e-5)
        return masked_lm_loss + self.cross_entropy(seq_relationship_score, next_sentence_labels).mean()


class BertNetworkWithLoss(nn.Cell):
    """The network that pre-training minimises."""

    def __init__(self, config: BertConfig, is_training: bool, use_one_hot_embeddings: bool = False):
        super().__init__()
        self.bert = BertPreTraining(config, is_training, use_one_hot_embeddings)
        self.loss = BertPretrainingLoss()

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor, next_sentence_labels: Tensor,
                  masked_lm_positions: Tensor, masked_lm_ids: Tensor, masked_lm_weights: Tensor) -> Tensor:
        """Map a batch of records, columns [B,S], [B,1] and [B,P], to the loss, a float32 scalar."""
        prediction_scores, seq_relationship_score = self.bert(input_ids, input_mask, token_type_id,
                                                              masked_lm_positions)
        return self.loss(prediction_scores, seq_relationship_score, masked_lm_ids, masked_lm_weights,
                         next_sentence_labels)


class BertPretrainEval(nn.Cell):
    """Predictions and losses of every masked position and every pair, so that sums over batches are exact."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.bert = BertPreTraining(config, is_training=False)
        self.cross_entropy = CrossEntropy()

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor, next_sentence_labels: Tensor,
                  masked_lm_positions: Tensor, masked_lm_ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the likeliest word ids [B,P] and classes [B], int32, and the losses [B,P] and [B], float32.

        The columns are those of `BertNetworkWithLoss` without the weights: the caller weights positions and rows.
        """
        prediction_scores, seq_relationship_score = self.bert(input_ids, input_mask, token_type_id,
                                                              masked_lm_positions)
        words = ops.argmax(prediction_scores, dim=-1).astype(ms.int32).reshape(masked_lm_ids.shape)  # [B,P]
        classes = ops.argmax(seq_relationship_score, dim=-1).astype(ms.int32)  # [B]
        word_losses = self.cross_entropy(prediction_scores, masked_lm_ids).reshape(masked_lm_ids.shape)  # [B,P]
        class_losses = self.cross_entropy(seq_relationship_score, next_sentence_labels)  # [B]
        return words, classes, word_losses, class_losses


def initialize_parameters(network: nn.Cell, initializer_range: float, seed: int) -> None:
    """Give every parameter of `network` the value that BERT starts from, again and reproducibly.

    Weights and tables are drawn by `truncated_normal` with the standard deviation `initializer_range`; biases and beta
    are 0, gamma is 1. A parameter's numbers depend on `seed` and its name only. Other kinds of parameters keep what
    they were created with.
    """
    def initial_value(parameter: Parameter) -> np.ndarray | None:
        name = parameter.name.rpartition(".")[2]
        if name in ("weight", "embedding_table", "embeddings_table"):
            return truncated_normal(parameter.shape, initializer_range, (seed, crc32(parameter.name.encode())))
        if name == "gamma":
            return np.ones(parameter.shape, np.float32)
        if name in ("bias", "beta", "output_bias"):
            return np.zeros(parameter.shape, np.float32)
        return None

    parameters = list(network.get_parameters())
    with ThreadPoolExecutor(max_workers=2) as pool:  # numpy draws without holding the interpreter lock
        for parameter, value in zip(parameters, pool.map(initial_value, parameters), strict=True):
            if value is not None:
                parameter.set_data(Tensor(value, parameter.dtype))
