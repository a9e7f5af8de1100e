"""The name under which the original keeps its networks for CPUs; here one form runs on every device."""

from src.bert_for_finetune import BertCLS, BertNER, BertSquad

__all__ = ["BertCLS", "BertNER", "BertSquad"]
