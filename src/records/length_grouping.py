"""Which sequence lengths to compile graphs for, so that little padding is computed.

A graph has a fixed length. Short batches are cut to the shortest of a few lengths that holds them; which few is a
trade between the padding that another length would spare and the compilation that it costs.
"""

from collections.abc import Sequence

import numpy as np

STEP = 8  # lengths are multiples of this: vector units like them, and fewer candidates are enough
# What the compilation of a graph costs, in batches of full length. Measured on two cores: 3 for BERT-base, up to 20
# for a network of two layers.
GRAPH_COST = 20


def lengths_in_use(mask: np.ndarray) -> np.ndarray:
    """Number of tokens up to the last one in use in each row of a mask [n,S]: int64 [n]."""
    return mask.shape[1] - (mask[:, ::-1] != 0).argmax(axis=1)


def choose_lengths(lengths: np.ndarray, full_length: int, num_batches: int) -> list[int]:
    """The lengths, ascending, that make a run over batches or records of these lengths shortest.

    Args:
        lengths: of the longest record in each batch, or of each record [n]; a sample of the run is enough.
        full_length: of the records as they are stored, the longest possible.
        num_batches: that the run will compute.

    Returns:
        The last of them holds the longest record.
    """
    rounded = np.minimum(-(-np.maximum(lengths, 1) // STEP) * STEP, full_length)
    candidates, counts = np.unique(rounded, return_counts=True)
    shares = np.cumsum(counts) / len(lengths)  # of the batches that are at most so long
    per_graph = GRAPH_COST * full_length
    # best[i]: the least cost of all batches up to candidates[i], when that is one of the lengths
    best, previous = [], []
    for i, candidate in enumerate(candidates):
        costs = [(best[j] if j >= 0 else 0.0) + (shares[i] - (shares[j] if j >= 0 else 0.0)) * num_batches * candidate
                 for j in range(-1, i)]
        choice = int(np.argmin(costs))
        best.append(costs[choice] + per_graph)
        previous.append(choice - 1)
    chosen, i = [], len(candidates) - 1
    while i >= 0:
        chosen.append(int(candidates[i]))
        i = previous[i]
    return chosen[::-1]


def fitting_length(longest: int, lengths: Sequence[int]) -> int:
    """The shortest of the ascending `lengths` that holds `longest` tokens."""
    return lengths[int(np.searchsorted(lengths, longest))]
