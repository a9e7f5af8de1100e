"""The name under which the original keeps its learning rate; see `src/training/optimizer.py`."""

from src.training.optimizer import WarmUpPolynomialDecay as BertLearningRate

__all__ = ["BertLearningRate"]
