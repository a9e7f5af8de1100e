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


# What the option assessment_method of classification may be, and the score that each stands for.
CLASSIFICATION_SCORES = {"accuracy": "accuracy", "f1": "f1", "mcc": "mcc"}
REGRESSION_SCORES = {"spearman_correlation": "spearman", "pearson_correlation": "pearson"}


def classification_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of classes; 0 where one is not defined.

    Args:
        logits: [n,C], of which the largest is the prediction.
        labels: right classes [n].

    Returns:
        accuracy; precision, recall and f1 of class 1 when there are two classes, the plain mean over the classes that
        occur (macro) otherwise; mcc, the correlation coefficient of Matthews (for more classes that of Gorodkin 2004);
        loss, the mean negative log likelihood.
    """
    num_classes = logits.shape[1]
    predictions = logits.argmax(axis=1)
    counts = np.zeros((num_classes, num_classes), np.int64)  # [label, prediction]
    np.add.at(counts, (labels, predictions), 1)
    right, of_label, of_prediction = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)  # [C]
    scored = [1] if num_classes == 2 else np.flatnonzero(of_label + of_prediction)
    precision, recall = _ratio(right, of_prediction), _ratio(right, of_label)
    f1 = _ratio(2 * right, of_label + of_prediction)
    total = len(labels)
    covariance = right.sum() * total - of_label @ of_prediction
    spread = float(total**2 - of_label @ of_label) * float(total**2 - of_prediction @ of_prediction)
    return {
        "accuracy": float(right.sum() / total),
        "precision": float(precision[scored].mean()),
        "recall": float(recall[scored].mean()),
        "f1": float(f1[scored].mean()),
        "mcc": float(covariance / np.sqrt(spread)) if spread else 0.0,
        "loss": float(negative_log_likelihood(logits, labels).mean()),
    }


def regression_scores(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of values [n] that should be `labels` [n]: pearson, spearman (of the ranks, ties share one), mse."""
    values, labels = values.astype(np.float64), labels.astype(np.float64)
    return {
        "spearman": _correlation(_ranks(values), _ranks(labels)),
        "pearson": _correlation(values, labels),
        "mse": float(np.square(values - labels).mean()),
    }


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Loss of each row [n] of logits [n,C]."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Position of each value in ascending order; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    spread = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / spread) if spread else 0.0
