"""The fine-tuning networks with their losses: what the training step minimises.

Shapes at line ends: B batch, S sequence, C classes, K tags.
"""

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.bert_for_pre_training import CrossEntropy
from src.bert_model import BertConfig
from src.CRF import CRF
from src.finetune_eval_model import BertCLSModel, BertNERModel, BertSquadModel

PADDING_SCORE = -1e9  # of a token that cannot be an answer: its probability is exactly 0


class ClassificationLoss(nn.Cell):
    """Mean negative log likelihood of the labels; with class weights the weighted mean, as in PyTorch."""

    def __init__(self, class_weights: Sequence[float] | None = None):
        super().__init__()
        self.cross_entropy = CrossEntropy()
        self.class_weights = None if class_weights is None else Tensor(list(class_weights), ms.float32)  # [C]

    def construct(self, logits: Tensor, label_ids: Tensor) -> Tensor:
        """Map logits float32 [B,C] and label_ids int32 [B,1] to the loss []."""
        losses = self.cross_entropy(logits, label_ids)  # [B]
        if self.class_weights is None:
            return losses.mean()
        weights = ops.gather(self.class_weights, label_ids.reshape((-1,)), 0)  # [B]
        return (losses * weights).sum() / weights.sum()


class RegressionLoss(nn.Cell):
    """Mean squared error."""

    def construct(self, logits: Tensor, label_ids: Tensor) -> Tensor:
        """Map values float32 [B,1] and what they should be, float32 [B,1], to the loss []."""
        difference = logits.reshape((-1,)) - label_ids.reshape((-1,))
        return (difference * difference).mean()


class BertCLS(nn.Cell):
    """Train sentence classification, or regression when there is one class."""

    def __init__(self, config: BertConfig, is_training: bool, num_labels: int = 2, dropout_prob: float = 0.0,
                 class_weights: Sequence[float] | None = None):
        super().__init__()
        self.bert = BertCLSModel(config, is_training, num_labels, dropout_prob)
        self.loss = RegressionLoss() if num_labels == 1 else ClassificationLoss(class_weights)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor, label_ids: Tensor) -> Tensor:
        """Map a batch of records, columns [B,S] and label_ids [B,1], to the loss, a float32 scalar."""
        return self.loss(self.bert(input_ids, input_mask, token_type_id), label_ids)


class BertSquad(nn.Cell):
    """Train extractive question answering: the mean of the losses of the answer's first and last token.

    Padding is no candidate, so that the loss does not depend on how far a batch is padded.
    """

    def __init__(self, config: BertConfig, is_training: bool):
        super().__init__()
        self.bert = BertSquadModel(config, is_training)
        self.cross_entropy = CrossEntropy()

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor, start_positions: Tensor,
                  end_positions: Tensor) -> Tensor:
        """Map a batch of records, columns [B,S] and positions [B,1], to the loss, a float32 scalar."""
        start_logits, end_logits = self.bert(input_ids, input_mask, token_type_id)
        padding = (1.0 - input_mask.astype(ms.float32)) * PADDING_SCORE  # [B,S]
        start_losses = self.cross_entropy(start_logits + padding, start_positions)
        end_losses = self.cross_entropy(end_logits + padding, end_positions)
        return (start_losses + end_losses).mean() / 2


class TokenLoss(nn.Cell):
    """Mean negative log likelihood of the tags of all tokens; padding does not count."""

    def __init__(self):
        super().__init__()
        self.cross_entropy = CrossEntropy()

    def construct(self, scores: Tensor, label_ids: Tensor, input_mask: Tensor) -> Tensor:
        """Map scores float32 [B,S,K], label_ids and input_mask int32 [B,S], to the loss []."""
        losses = self.cross_entropy(scores.reshape((-1, scores.shape[-1])), label_ids)  # [B*S]
        weights = input_mask.reshape((-1,)).astype(ms.float32)
        return (losses * weights).sum() / weights.sum()


class BertNER(nn.Cell):
    """Train the tags of tokens, each by itself or with a CRF.

    Args:
        num_tags: number of tags without the states of the CRF.
    """

    def __init__(self, config: BertConfig, is_training: bool, num_tags: int, use_crf: bool = False,
                 with_lstm: bool = False, dropout_prob: float = 0.0):
        super().__init__()
        self.bert = BertNERModel(config, is_training, num_tags + 2 * use_crf, with_lstm, dropout_prob)
        self.loss = CRF(num_tags) if use_crf else TokenLoss()

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor, label_ids: Tensor) -> Tensor:
        """Map a batch of records, columns [B,S], to the loss, a float32 scalar."""
        return self.loss(self.bert(input_ids, input_mask, token_type_id), label_ids, input_mask)


class BertNERTagger(nn.Cell):
    """The likeliest tags, with the parameter names of `BertNER`: evaluation, prediction, export."""

    def __init__(self, config: BertConfig, num_tags: int, use_crf: bool = False, with_lstm: bool = False):
        super().__init__()
        self.use_crf = use_crf
        self.bert = BertNERModel(config, False, num_tags + 2 * use_crf, with_lstm)
        if use_crf:
            self.loss = CRF(num_tags)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor) -> Tensor:
        """Map ids, mask and segments, int32 [B,S], to tag ids int32 [B,S], 0 at padding."""
        scores = self.bert(input_ids, input_mask, token_type_id)  # [B,S,K]
        if self.use_crf:
            return self.loss.decode(scores, input_mask)
        return scores.argmax(2).astype(ms.int32) * input_mask
