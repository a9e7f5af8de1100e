"""Which classes were taken for which others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.html_page import Table

_MOST_CLASSES = 30  # of which a table of all pairs can be read


def confusion_table(predicted: np.ndarray, labels: np.ndarray, names: Sequence[Any]) -> Table:
    """How often each class [n] was taken for each other; of many classes only the pairs that were confused most."""
    count = len(names)
    pairs = np.bincount(labels * count + predicted, minlength=count * count)
    counts = pairs.reshape(count, count)  # [label, predicted]
    if count <= _MOST_CLASSES:
        rows = [[str(name), *row] for name, row in zip(names, counts.tolist(), strict=True)]
        return Table("Confusion matrix: each row is what was expected, each column what was predicted",
                     ("", *map(str, names)), rows, shaded=True)
    np.fill_diagonal(counts, 0)
    worst = np.argsort(-counts, axis=None, kind="stable")[:_MOST_CLASSES]
    rows = [(str(names[label]), str(names[other]), int(counts[label, other]))
            for label, other in zip(*np.unravel_index(worst, counts.shape), strict=True) if counts[label, other]]
    return Table("Classes that were confused most", ("expected", "predicted", "times"), rows)
