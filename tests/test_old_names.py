"""Modules that users of the original import by name."""

import importlib

import pytest


@pytest.mark.parametrize(("module", "names"), [
    ("bert_for_finetune", "BertCLS BertNER BertSquad"), ("bert_for_finetune_cpu", "BertCLS BertNER BertSquad"),
    ("bert_for_pre_training", "BertPreTraining BertNetworkWithLoss GetMaskedLMOutput GetNextSentenceOutput"),
    ("bert_model", "BertConfig BertModel"), ("finetune_eval_model", "BertCLSModel BertNERModel BertSquadModel"),
    ("CRF", "CRF"), ("cluner_evaluation", "write_submission"), ("cluner_evaluation_cpu", "write_submission"),
    ("utils", "BertLearningRate"), ("dataset", "create_dataset")])
def test_what_is_imported_is_there(module, names):
    found = importlib.import_module(f"src.{module}")
    assert all(callable(getattr(found, name)) for name in names.split())


def test_the_learning_rate_has_the_arguments_of_the_original():
    from src.utils import BertLearningRate

    schedule = BertLearningRate(learning_rate=1e-3, end_learning_rate=1e-5, warmup_steps=10, decay_steps=100, power=1.0)
    assert schedule.value_at(5) == pytest.approx(5e-4)
    assert schedule.value_at(100) == pytest.approx(1e-5)
