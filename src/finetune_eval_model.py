"""The encoder with the head of a fine-tuning task: what is evaluated, exported and used for prediction.

Shapes at line ends: B batch, S sequence, H hidden, C classes. Cells and parameters carry the names of the published
checkpoints; every network takes the columns in the order of the records and any batch size and sequence length.
"""

import mindspore as ms
from mindspore import Tensor, nn

from src.bert_model import BertConfig, BertModel
from src.dropout import Dropout
from src.layers import Dense, tensor_type
from src.lstm import BidirectionalLSTM


class BertCLSModel(nn.Cell):
    """Score the classes of a sentence or a pair of sentences; with one class its value (regression).

    Args:
        config: the encoder.
        is_training: whether dropout applies.
        num_labels: number of classes C; 1 for regression.
        dropout_prob: dropout on the pooled output while training.
    """

    def __init__(self, config: BertConfig, is_training: bool, num_labels: int = 2, dropout_prob: float = 0.0):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.bert = BertModel(config, is_training)
        self.dropout = Dropout(dropout_prob if is_training else 0.0)
        self.dense_1 = Dense(config.hidden_size, num_labels, initializer_range=config.initializer_range,
                             compute_type=config.compute_type)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor) -> Tensor:
        """Map ids, mask and segments, int32 [B,S], to logits float32 [B,C]."""
        _, pooled, _ = self.bert(input_ids, token_type_id, input_mask)  # [B,H]
        return self.dense_1(self.dropout(pooled).astype(self.compute_type)).astype(ms.float32)


class BertSquadModel(nn.Cell):
    """Score every token as the start and as the end of the answer."""

    def __init__(self, config: BertConfig, is_training: bool):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.bert = BertModel(config, is_training)
        self.dense1 = Dense(config.hidden_size, 2, initializer_range=config.initializer_range,
                            compute_type=config.compute_type)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor) -> tuple[Tensor, Tensor]:
        """Map ids, mask and segments, int32 [B,S], to start logits and end logits, float32 [B,S]."""
        hidden, _, _ = self.bert(input_ids, token_type_id, input_mask)  # [B,S,H]
        logits = self.dense1(hidden.astype(self.compute_type)).astype(ms.float32)  # [B,S,2]
        return logits[:, :, 0], logits[:, :, 1]


class BertNERModel(nn.Cell):
    """Score the tags of every token.

    Args:
        config: the encoder.
        is_training: whether dropout applies.
        num_labels: number of tags K, with a CRF its two states included.
        with_lstm: whether a bidirectional LSTM of the encoder's width reads the hidden states first.
        dropout_prob: dropout on the hidden states while training.
    """

    def __init__(self, config: BertConfig, is_training: bool, num_labels: int, with_lstm: bool = False,
                 dropout_prob: float = 0.0):
        super().__init__()
        self.compute_type = tensor_type(config.compute_type)
        self.with_lstm = with_lstm
        self.bert = BertModel(config, is_training)
        self.dropout = Dropout(dropout_prob if is_training else 0.0)
        if with_lstm:
            self.lstm = BidirectionalLSTM(config.hidden_size, config.hidden_size // 2)
        self.dense_1 = Dense(config.hidden_size, num_labels, initializer_range=config.initializer_range,
                             compute_type=config.compute_type)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor) -> Tensor:
        """Map ids, mask and segments, int32 [B,S], to scores float32 [B,S,K]."""
        hidden, _, _ = self.bert(input_ids, token_type_id, input_mask)  # [B,S,H]
        hidden = self.dropout(hidden)
        if self.with_lstm:
            hidden = self.lstm(hidden.astype(ms.float32), input_mask)
        return self.dense_1(hidden.astype(self.compute_type)).astype(ms.float32)


class WithPrefix(nn.Cell):
    """A network that scores, with the parameter names of the one that is trained: those of `bert` in a larger cell."""

    def __init__(self, scoring_network: nn.Cell):
        super().__init__()
        self.bert = scoring_network

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map ids, mask and segments, int32 [B,S], to what the scoring network gives."""
        return self.bert(input_ids, input_mask, token_type_id)
