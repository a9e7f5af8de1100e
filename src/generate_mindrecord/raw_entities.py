"""Records of named entities from the raw files that users have: CLUENER's JSON, token and tag lines, MSRA's XML."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from src.generate_mindrecord.ner_records import NerOptions, read_tagged_files, write_data_set
from src.generate_mindrecord.raw_data import TRAIN_OPTIONS, Maker, find_split
from src.records.cache import fingerprint
from src.tasks.ner.corpora import CLUENER_TYPES, TaggedLines, read_cluener, read_msra
from src.tasks.ner.labels import LABEL_FILE, LabelScheme
from src.tasks.ner.task import read_label_scheme
from src.tasks.ner.text import Sentence
from src.text_files import read_lines

ENDINGS = (".json", ".jsonl", ".txt", ".tsv", ".conll", ".bio", "")
_SENTENCES_LOOKED_AT = 100
_CHARACTERS_SHARE = 0.95  # of tokens of one character; in English text it is below 0.3


class EntityMaker(Maker):
    """See `Maker`. Types are those of `label_file_path`, or those of the training data."""

    labels: LabelScheme | None = None

    def takes(self, option: str) -> bool:
        """Not the sentences of a benchmark, which the task reads itself."""
        return option in TRAIN_OPTIONS or self.config.assessment_method.lower() != "clue_benchmark"

    def plan(self, path: Path, option: str, is_training: bool) -> tuple[Mapping[str, Any], Callable[[Path], None]]:
        """See `Maker.plan`."""
        if path.is_dir():
            is_published = any((path / f"example.{split}").is_file() for split in ("train", "dev"))
            path = find_split(path, option, is_training, ("",) if is_published else ENDINGS,
                              "example." if is_published else "")
        if self.labels is None and (not is_training or self.config.label_file_path or self.config.label2id_file_path):
            self.labels = read_label_scheme(self.config)
        is_json = next((line for _, line in read_lines(path) if line.strip()), "").lstrip().startswith("{")
        unit = self._unit(path, is_json)
        known = self.labels

        def write(folder: Path) -> None:
            sentences, = _sentences(path, is_json, unit)
            options = NerOptions(self.options(folder), unit)
            print(f"{path}: {len(sentences)} sentences, whose tokens are {unit}s")
            labels = known or (options.labels([sentences], str(path)) if not is_json else _types(sentences, path))
            write_data_set({"train" if is_training else "dev": sentences}, labels, options, [path])

        types = known.types if known else "those that occur"
        return {"source": fingerprint(path), "labels": types, "unit": unit}, write

    def made(self, folder: Path, is_training: bool) -> None:
        """The types of the training data count for the evaluation."""
        self.labels = self.labels or LabelScheme.from_file(folder / LABEL_FILE)

    def _unit(self, path: Path, is_json: bool) -> str:
        """What the user says; else tagged tokens of one character show that characters are the units."""
        if is_json or path.suffix == ".xml" or self.config.is_explicit("text_unit"):
            return self.config.text_unit
        sentences = islice(TaggedLines(path, " "), _SENTENCES_LOOKED_AT)
        tokens = [token for sentence in sentences for token in sentence.text.split(" ")]
        of_one = sum(len(token) <= 1 for token in tokens)
        return "character" if of_one >= _CHARACTERS_SHARE * len(tokens) else "word"


def _sentences(path: Path, is_json: bool, unit: str) -> list[list[Sentence]]:
    if is_json:
        return [list(read_cluener(path))]
    return [read_msra(path)] if path.suffix == ".xml" else read_tagged_files([path], unit)


def _types(sentences: Sequence[Sentence], path: Path) -> LabelScheme:
    """The types of JSON lines; those of CLUENER in the order of its own label file."""
    types = {entity.type for sentence in sentences for entity in sentence.entities}
    return LabelScheme(CLUENER_TYPES if types == set(CLUENER_TYPES) else sorted(types), str(path))
