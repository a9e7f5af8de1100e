import numpy as np
import pytest

from src.assessment_method import PretrainScore


def make_batch():
    """Two rows of three masked positions, the last one of the second row padding."""
    return {
        "words": np.array([[5, 6, 7], [5, 9, 3]]), "word_labels": np.array([[5, 6, 8], [5, 5, 3]]),
        "word_weights": np.array([[1, 1, 1], [1, 1, 0]], np.float32),
        "word_losses": np.array([[0.5, 0.5, 2], [0.5, 1.5, 99]], np.float32),
        "classes": np.array([0, 1]), "class_labels": np.array([[0], [0]]),
        "class_losses": np.array([0.25, 0.75], np.float32),
    }


def test_padding_counts_for_nothing():
    score = PretrainScore()
    score.update(**make_batch())
    results = score.results()
    assert results["masked_lm_accuracy"] == pytest.approx(3 / 5)
    assert results["masked_lm_loss"] == pytest.approx(5 / 5)
    assert results["next_sentence_accuracy"] == pytest.approx(1 / 2)
    assert results["next_sentence_loss"] == pytest.approx(0.5)


def test_baseline_is_the_share_of_the_most_frequent_label():
    score = PretrainScore()
    score.update(**make_batch())
    assert score.results()["most_frequent_word_accuracy"] == pytest.approx(3 / 5)  # 5 stands at three of five positions


def test_batches_add_up():
    batch = make_batch()
    whole, parts = PretrainScore(), PretrainScore()
    whole.update(**batch)
    for row in range(2):
        parts.update(**{name: column[row:row + 1] for name, column in batch.items()})
    assert parts.results() == pytest.approx(whole.results())


def test_lines_have_the_documented_form():
    score = PretrainScore()
    score.update(**make_batch())
    assert score.lines()[0].startswith("masked_lm: acc_num 3 , total_num 5, accuracy 0.600000")
    assert score.lines()[1].startswith("next_sentence: acc_num 1 , total_num 2, accuracy 0.500000")


def test_nothing_counted_is_no_error():
    assert PretrainScore().results()["masked_lm_accuracy"] == 0
