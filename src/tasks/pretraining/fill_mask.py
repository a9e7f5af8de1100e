"""Fill in [MASK] with a pre-trained network: the quickest look at what it has learnt."""

from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.errors import UserError
from src.tokenization import FullTokenizer


@dataclass(frozen=True)
class Guess:
    """A word for a masked position with its probability."""

    token: str
    probability: float


class MaskFiller(nn.Cell):
    """Rank the words for each [MASK] of a sentence.

    Args:
        network: the encoder with its masked-LM head.
        tokenizer: one made with `never_split=["[MASK]"]`, of the vocabulary that the network was trained with.
        seq_length: longest sentence in tokens, [CLS] and [SEP] included; sentences are padded to it, so that the
            graph is compiled once.
    """

    def __init__(self, network: Callable[..., Tensor | tuple[Tensor, ...]], tokenizer: FullTokenizer,
                 seq_length: int = 128):
        super().__init__(auto_prefix=False)
        self.network = network
        self.tokenizer = tokenizer
        self.seq_length = seq_length
        self.set_train(False)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
        """Map ids, mask, types [1,S] and positions [1,S] to probabilities [S,V]."""
        scores, _ = self.network(input_ids, input_mask, token_type_ids, positions)
        return ms.ops.softmax(scores, axis=-1)

    def fill(self, text: str, top_k: int = 5) -> list[list[Guess]]:
        """The `top_k` likeliest words for every [MASK] of `text`, the likeliest first.

        Raises:
            UserError: the text holds no [MASK], or more tokens than `seq_length`.
        """
        vocab = self.tokenizer.vocab
        ids = [vocab.cls_id, *self.tokenizer.encode(text), vocab.sep_id]
        if len(ids) > self.seq_length:
            raise UserError(f"the text has {len(ids)} tokens, at most {self.seq_length} fit; shorten it: {text[:60]}")
        masked = [position for position, token in enumerate(ids) if token == vocab.mask_id]
        if not masked:
            raise UserError(f"no [MASK] in the text; put [MASK] in place of the words to guess: {text[:60]}")
        probabilities = self(*(Tensor(self._row(values)) for values in (ids, [1] * len(ids), [], masked))).asnumpy()
        # Ids behind the vocabulary's end exist when the network's vocab_size was rounded up; they are no words.
        candidates = probabilities[:len(masked), :len(vocab)]  # [masks,V]
        best = np.argsort(-candidates, axis=1, kind="stable")[:, :top_k]
        return [[Guess(vocab.tokens[token], float(row[token])) for token in tokens]
                for row, tokens in zip(candidates, best, strict=True)]

    def _row(self, values: list[int]) -> np.ndarray:
        row = np.zeros((1, self.seq_length), np.int32)
        row[0, :len(values)] = values
        return row
