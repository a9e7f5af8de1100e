"""What the generators of named-entity records share: writing records and label file, and saying what became of them."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from src.errors import UserError
from src.files import check_output, make_output_dir
from src.generate_mindrecord.options import RecordOptions, add_record_options
from src.records.about import accompany
from src.records.sentences import writing_sentences
from src.records.writer import EXTENSIONS, SCHEMA_NAME, RecordWriter, write_schema_json
from src.tasks.ner.corpora import TaggedLines
from src.tasks.ner.evaluated import source_fields
from src.tasks.ner.labels import LABEL_FILE, LabelScheme
from src.tasks.ner.text import UNITS, NerEncoder, Sentence, SentenceTokenizer, Tokens, ner_columns
from src.tokenization import FullTokenizer

_PARTS_AT_ONCE = 2048  # encoded and written; bounds memory


class NerOptions(NamedTuple):
    """How sentences become records: the fields of `RecordOptions`, and options of this task."""

    records: RecordOptions
    unit: str = "character"
    label_file: str = ""

    @classmethod
    def take_from(cls, given: dict) -> "NerOptions":
        """Remove these options from the parsed ones."""
        records = RecordOptions(**{field.name: given.pop(field.name) for field in fields(RecordOptions)})
        return cls(records, given.pop("unit"), given.pop("label_file"))

    def tokenizer(self) -> SentenceTokenizer:
        """The tokenizer that they ask for."""
        return SentenceTokenizer(FullTokenizer(self.records.vocab_file, self.records.do_lower_case), self.unit)

    def labels(self, splits: Iterable[Iterable[Sentence]], source: str) -> LabelScheme:
        """The types of `label_file`, or else those of the sentences, in alphabetical order."""
        if self.label_file:
            return LabelScheme.from_file(self.label_file, "--label_file")
        types = {entity.type for sentences in splits for sentence in sentences for entity in sentence.entities}
        if not types:
            raise UserError(f"{source}: no sentence has an entity, so the types are unknown; give them by --label_file "
                            f"(--label2id for MSRA), one a line")
        return LabelScheme(sorted(types), source)


def add_ner_options(parser: argparse.ArgumentParser, max_seq_length: int = 128, unit: str = "character") -> None:
    """Add the fields of `NerOptions`."""
    add_record_options(parser, long_texts="longer sentences become several records")
    parser.set_defaults(max_seq_length=max_seq_length)
    add = parser.add_argument
    add("--unit", choices=UNITS, default=unit,
        help="what is cut into tokens by itself: each character, as is usual for Chinese, or each word "
             "(default %(default)s)")
    add("--label_file", default="", metavar="FILE",
        help="entity types, one a line, in the order of their ids (default: those of the data)")


def read_tagged_files(files: Iterable[Path], unit: str) -> list[list[Sentence]]:
    """Sentences of each file of tagged lines; entities that begin with I- are mentioned."""
    splits = []
    for path in files:
        lines = TaggedLines(path, "" if unit == "character" else " ")
        splits.append(list(lines))
        if lines.num_unopened:
            print(f"note: {path}: {lines.num_unopened} entities begin with I-, M- or E- (the first on "
                  f"{lines.first_unopened}); they count as if with B-")
    return splits


def write_data_set(files: Mapping[str, Sequence[Sentence]], labels: LabelScheme, options: NerOptions,
                   sources: Sequence[str | Path]) -> None:
    """Write the record files of a data set, all or none, with the label file and for TFRecord the schema; report them.

    Args:
        files: the sentences of each record file, by its name without extension.
        labels: the entity types.
        options: what the user wants.
        sources: the raw file of each record file.

    Raises:
        UserError: an entity is of another type, a file would be empty, or cannot be written.
    """
    directory = make_output_dir(options.records.output_dir, "--output_dir")
    extension = EXTENSIONS[options.records.dataset_format]
    write_files({check_output(directory / f"{name}.{extension}", "--output_dir"): sentences
                 for name, sentences in files.items()}, labels, options, sources)


def write_files(files: Mapping[Path, Sequence[Sentence]], labels: LabelScheme, options: NerOptions,
                sources: Sequence[str | Path]) -> None:
    """Write the sentences of each record file; see `write_data_set`."""
    tokenizer = options.tokenizer()
    length, dataset_format = options.records.max_seq_length, options.records.dataset_format
    reports = []
    with ExitStack() as stack:
        for path, sentences in files.items():
            encoder = NerEncoder(tokenizer, labels, length)
            writer = stack.enter_context(RecordWriter(path, ner_columns(length), dataset_format))
            shown = tqdm(sentences, desc=path.name, unit=" sentences", leave=False, disable=None)
            parts = _parts(encoder, shown, stack.enter_context(writing_sentences(path)))
            while block := list(islice(parts, _PARTS_AT_ONCE)):
                writer.write(encoder.records(block))
            reports += [f"{path}: {writer.num_rows} records of {len(sentences)} sentences with "
                        f"{sum(len(sentence.entities) for sentence in sentences)} entities", *_notes(encoder)]
    directory = next(iter(files)).parent
    labels.write(directory / LABEL_FILE)
    accompany(files, options.records.vocab_file, {"task": "ner", **options.records.about(), "text_unit": options.unit,
                                                  "label_file": LABEL_FILE}, sources)
    if dataset_format == "tfrecord":
        # Without a number of rows: the schema serves all the files, and would limit the reading of each.
        write_schema_json(directory / SCHEMA_NAME, ner_columns(length), 0)
    reports.append(f"{len(labels.types)} entity types in {directory / LABEL_FILE}: {', '.join(labels.types)}")
    print("\n".join(reports))


def _parts(encoder: NerEncoder, sentences: Iterable[Sentence], add_source: Callable[..., None]
           ) -> Iterator[tuple[Tokens, np.ndarray]]:
    """The parts of the sentences that become records; tells of each sentence which these are."""
    for sentence in sentences:
        parts = [part for part in encoder.encode(sentence) if len(part[0])]
        fields = source_fields(sentence, [tokens for tokens, _ in parts], encoder.tokenizer)
        add_source(sentence.where, sentence.text, len(parts), **fields)
        yield from parts


def _notes(encoder: NerEncoder) -> list[str]:
    """What did not go into the records as it was."""
    skipped = encoder.skipped
    counts = {
        f"sentences of more than {encoder.seq_length - 2} tokens, now several records": encoder.num_cut,
        "entities that overlap with a longer one, left out": skipped.overlapping,
        "entities of characters that the tokenizer drops, left out": skipped.without_token,
        "entities that begin or end inside a token or at a dropped character, moved to the token": skipped.changed,
        "entities longer than a record, cut": skipped.cut,
    }
    return [f"  {what}: {count}" for what, count in counts.items() if count]
