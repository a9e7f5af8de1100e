"""Scores: the one definition of every number that an evaluation prints."""

import numpy as np


class PretrainScore:
    """Masked-LM and next-sentence accuracy and loss over all examples seen.

    A masked position counts by its weight (0 for the padding of the column), a pair counts once. The baseline is the
    accuracy of always answering the word that is masked most often in these very examples.
    """

    def __init__(self) -> None:
        self.pairs = self.correct_pairs = 0
        self.positions = self.correct_positions = 0.0
        self.word_loss = self.pair_loss = 0.0
        self.word_counts = np.zeros(0, np.int64)  # [V so far]

    def update(self, words: np.ndarray, classes: np.ndarray, word_losses: np.ndarray, class_losses: np.ndarray,
               word_labels: np.ndarray, word_weights: np.ndarray, class_labels: np.ndarray) -> None:
        """Add a batch.

        Args:
            words: the likeliest word ids [B,P]; `word_labels` the masked ones, `word_losses` the losses there,
                `word_weights` 1.0 for a masked position and 0.0 for padding.
            classes: the likeliest classes [B]; `class_labels` [B] or [B,1] the right ones, `class_losses` [B].
        """
        self.positions += float(word_weights.sum(dtype=np.float64))
        self.correct_positions += float(((words == word_labels) * word_weights).sum(dtype=np.float64))
        self.word_loss += float((word_losses * word_weights).sum(dtype=np.float64))
        self.pairs += len(classes)
        self.correct_pairs += int((classes == class_labels.reshape(-1)).sum())
        self.pair_loss += float(class_losses.sum(dtype=np.float64))
        counts = np.bincount(word_labels[word_weights > 0], minlength=len(self.word_counts))
        counts[:len(self.word_counts)] += self.word_counts
        self.word_counts = counts

    def results(self) -> dict[str, float]:
        """Accuracies from 0 to 1 and mean losses in nats; 0 where nothing was counted."""
        positions, pairs = max(self.positions, 1e-9), max(self.pairs, 1)
        return {
            "masked_lm_accuracy": self.correct_positions / positions,
            "masked_lm_loss": self.word_loss / positions,
            "most_frequent_word_accuracy": float(self.word_counts.max(initial=0)) / positions,
            "next_sentence_accuracy": self.correct_pairs / pairs,
            "next_sentence_loss": self.pair_loss / pairs,
        }

    def lines(self) -> list[str]:
        """The lines that an evaluation prints."""
        results = self.results()
        return [
            f"masked_lm: acc_num {self.correct_positions:.0f} , total_num {self.positions:.0f}, "
            f"accuracy {results['masked_lm_accuracy']:.6f}, loss {results['masked_lm_loss']:.4f} "
            f"(always the most frequent word: accuracy {results['most_frequent_word_accuracy']:.6f})",
            f"next_sentence: acc_num {self.correct_pairs} , total_num {self.pairs}, "
            f"accuracy {results['next_sentence_accuracy']:.6f}, loss {results['next_sentence_loss']:.4f}",
        ]
