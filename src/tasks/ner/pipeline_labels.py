"""Our tags as the token-classification pipeline of transformers knows them."""

from collections.abc import Sequence

from src.tasks.ner.labels import CRF_STATES, OPENING, OUTSIDE, parse_tag


def pipeline_labels(tags: Sequence[str]) -> tuple[list[str], list[str]]:
    """B- for the tags that begin an entity and I- for the others, and notes for the user; a CRF's states are left out.

    Several tags have the same name then: the pipeline asks for the name of the best tag, and joins I- to what precedes.
    """
    names = [name for name in tags if name not in CRF_STATES]
    notes = []
    if len(names) < len(tags):
        notes.append("the CRF is left out: transformers takes the best tag of each token by itself, predict.py the "
                     "best sequence, so their entities can differ")
    parsed = [tag for tag in map(parse_tag, names) if tag]
    if len(parsed) < len(names):
        return names, notes
    notes.append('pipeline("ner", aggregation_strategy="simple") gives the entities of predict.py, with text_unit word '
                 'aggregation_strategy="first" does')
    return [OUTSIDE if prefix == OUTSIDE else f"{'B' if prefix in OPENING else 'I'}-{kind}"
            for prefix, kind in parsed], notes
