"""What the network sees of a question and its context: `[CLS] question [SEP] window of the context [SEP]`.

A context that does not fit beside its question is cut into overlapping windows, `doc_stride` tokens apart; each is a
record of its own. Windows, ids and answer positions equal those of BERT's SQuAD conversion. Records are not stored but
put together when they are read, from the tokens of all contexts and questions: each context is tokenized once, and
memory holds it once, however many questions and windows there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from src.errors import UserError
from src.tasks.squad.contexts import AnswerSpans, TextTokenizer
from src.tasks.squad.examples import SquadFile
from src.tokenization import Tokenizer

FIRST_UNIQUE_ID = 1_000_000_000  # as in BERT's conversion; record i has this plus i
# Measured: 0.0002 for SQuAD and 0.004 for Chinese text, each with its own uncased vocabulary; 0.15 for SQuAD with
# do_lower_case false for the same vocabulary; 0.59 for Chinese text with the English one.
UNKNOWN_SHARE_LIMIT = 0.05
_SPECIAL_TOKENS = 3  # [CLS] question [SEP] window [SEP]



@dataclass(frozen=True)
class FeatureOptions:
    """How windows are cut.

    Args:
        max_seq_length: tokens of a record, S.
        doc_stride: tokens from the beginning of a window to that of the next; where fewer fit into a window, so many.
        max_query_length: longer questions lose their end.
    """

    max_seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64

    def __post_init__(self) -> None:
        """Refuse what leaves no room for the context."""
        for name in ("max_seq_length", "doc_stride", "max_query_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.max_seq_length <= self.max_query_length + _SPECIAL_TOKENS:
            raise UserError(f"max_seq_length is {self.max_seq_length}, which a question of max_query_length "
                            f"{self.max_query_length} and three special tokens fill; lower max_query_length")


class SquadFeatures:
    """The records of a file's questions; read like the record files of `src/records/reader.py`.

    Attributes:
        examples: the questions.
        contexts: the tokens of each context.
        columns: {name: (dtype, values in a record)}, with the answers' positions only for training.
        num_rows, seq_length, files: as of `Records`.
        example_of: number of the question of each record [num_rows].
        notes: a line for each question whose context is empty, and in training for each that is left out because its
            answer is not where its annotation says.
        num_left_out: questions without any record.
        num_realigned: answers that do not begin exactly at their annotation, but were found in the words there.
        unknown_share: share of [UNK] among the contexts' tokens.

    Args:
        squad: the questions.
        tokenizer: of the network's vocabulary.
        options: how windows are cut.
        is_training: with the positions of the first answer of each question; position 0, [CLS], stands for "not in
            this window".
    """

    def __init__(self, squad: SquadFile, tokenizer: Tokenizer, options: FeatureOptions, is_training: bool) -> None:
        self.examples = squad.examples
        self.texts = squad.contexts
        self.columns = squad_columns(options.max_seq_length, is_training)
        self.files = [squad.path]
        self.seq_length = options.max_seq_length
        self._vocab = tokenizer.vocab
        tokenize = TextTokenizer(tokenizer)
        self.contexts = [tokenize(text) for text in squad.contexts]
        questions = [tokenizer.encode(example.question)[:options.max_query_length] for example in squad.examples]
        spans = AnswerSpans.find(self.examples, self.texts, self.contexts, tokenizer) if is_training else None
        self._flatten(questions)
        self._cut_windows(options, spans or AnswerSpans(len(questions)))

    @property
    def num_left_out(self) -> int:
        """Questions without any record."""
        return len(self.examples) - len(np.unique(self.example_of))

    @property
    def unknown_share(self) -> float:
        """Share of [UNK] among the contexts' tokens; 0 without any token."""
        return float((self._context_ids == self._vocab.unk_id).mean()) if len(self._context_ids) else 0.0

    # ------------------------------------------------------------ making

    def _flatten(self, questions: list[list[int]]) -> None:
        """All tokens one after another, and where each context and question begins."""
        self._context_ids = np.concatenate([context.ids for context in self.contexts])
        self._context_lengths = np.array([len(context.ids) for context in self.contexts])
        self._context_begins = np.cumsum(self._context_lengths) - self._context_lengths
        self._question_ids = np.array([token for question in questions for token in question], np.int32)
        self._question_lengths = np.array([len(question) for question in questions])
        self._question_begins = np.cumsum(self._question_lengths) - self._question_lengths

    def _cut_windows(self, options: FeatureOptions, spans: AnswerSpans) -> None:
        self.num_realigned = spans.num_realigned
        context_of = np.array([example.context for example in self.examples])
        T = self._context_lengths[context_of]  # [E] tokens of the context
        room = options.max_seq_length - _SPECIAL_TOKENS - self._question_lengths  # [E] tokens of it that fit
        stride = np.minimum(options.doc_stride, room)
        count = 1 + np.maximum(0, -(-(T - room) // stride))  # windows, the last of which reaches the end
        count[(T == 0) | spans.is_bad] = 0
        self.notes = spans.notes + [f"{self.examples[e].place}: the context is empty; there is nothing to answer from"
                       for e in np.flatnonzero(T == 0)]
        self.example_of = np.repeat(np.arange(len(count)), count)
        number = np.arange(len(self.example_of)) - np.repeat(np.cumsum(count) - count, count)  # within the question
        self._context_of = context_of[self.example_of]
        self._prefix = self._question_lengths[self.example_of] + 2  # [CLS] question [SEP]
        self._begins = number * stride[self.example_of]  # first token of the window in its context
        self._sizes = np.minimum(T[self.example_of] - self._begins, room[self.example_of])
        self.num_rows = len(self.example_of)
        first, last = spans.first[self.example_of], spans.last[self.example_of]
        inside = (spans.is_there[self.example_of]
                  & (first >= self._begins) & (last < self._begins + self._sizes))
        self._positions = np.where(inside, np.stack([first, last]) - self._begins + self._prefix, 0)  # [2, num_rows]
        self._impossible = ~inside

    # ------------------------------------------------------------ reading

    def limit(self, num_samples: int) -> None:
        """Have only the first so many records from now on; a number below 1 leaves all."""
        if num_samples > 0:
            self.num_rows = min(self.num_rows, num_samples)

    def select(self, names: Iterable[str]) -> None:
        """Have only these columns from now on, in this order."""
        self.columns = {name: self.columns[name] for name in names}

    def read(self, rows: np.ndarray, columns: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The records of these numbers, in this order: int32 [len(rows), length] for each column; None reads all."""
        rows = np.asarray(rows, np.int64)
        return {name: self._column(name, rows) for name in columns or self.columns}

    def _column(self, name: str, rows: np.ndarray) -> np.ndarray:
        if name == "input_ids":
            return self._input_ids(rows)
        if name == "input_mask":
            return (np.arange(self.seq_length) < self.used_lengths(rows)[:, None]).astype(np.int32)
        if name == "segment_ids":
            place = np.arange(self.seq_length)
            return ((place >= self._prefix[rows, None]) & (place < self.used_lengths(rows)[:, None])).astype(np.int32)
        values = {"unique_ids": FIRST_UNIQUE_ID + rows, "start_positions": self._positions[0, rows],
                  "end_positions": self._positions[1, rows], "is_impossible": self._impossible[rows]}[name]
        return values.astype(np.int32)[:, None]

    def _input_ids(self, rows: np.ndarray) -> np.ndarray:
        ids = np.full((len(rows), self.seq_length), self._vocab.pad_id, np.int32)  # [n, S]
        ids[:, 0] = self._vocab.cls_id
        examples = self.example_of[rows]
        question_starts = self._question_begins[examples]
        window_starts = self._context_begins[self._context_of[rows]] + self._begins[rows]
        where = zip(question_starts, window_starts, self._prefix[rows], self._sizes[rows], strict=True)
        for row, (question_start, window_start, prefix, size) in zip(ids, where, strict=True):
            row[1:prefix - 1] = self._question_ids[question_start:question_start + prefix - 2]
            row[prefix - 1] = row[prefix + size] = self._vocab.sep_id
            row[prefix:prefix + size] = self._context_ids[window_start:window_start + size]
        return ids

    def where(self, row: int) -> str:
        """Name a record to the user: its question in the file."""
        return f"{self.files[0]}: {self.examples[self.example_of[row]].place}"

    def used_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of these records that are no padding [n]."""
        return self._prefix[rows] + self._sizes[rows] + 1

    # ------------------------------------------------------------ finding answers

    def in_context(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Whether each of the first `length` tokens of these records belongs to the context, bool [n, length]."""
        place = np.arange(length)
        return (place >= self._prefix[rows, None]) & (place < (self._prefix + self._sizes)[rows, None])

    def max_context(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Whether each token is, of its copies in all windows, the one with the most context around it [n, length].

        The context of a token is the smaller of what is left and right of it in the window, and a little for the length
        of the window; of equal windows the first counts. An answer may only begin at such a token.
        """
        place = np.arange(length)[None] - self._prefix[rows, None] + self._begins[rows, None]  # token of the context
        best = self.in_context(rows, length)
        own = self._context_score(rows, place)
        for direction in (-1, 1):
            distance = direction
            while True:
                others = (rows + distance).clip(0, self.num_rows - 1)
                same = (others == rows + distance) & (self.example_of[others] == self.example_of[rows])
                other = np.where(same[:, None], self._context_score(others, place), -np.inf)
                if not np.isfinite(other[best]).any():
                    break
                best &= own > other if direction < 0 else own >= other
                distance += direction
        return best

    def _context_score(self, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
        """What the window gives the tokens of its context, -inf outside the window [n, length]."""
        left = place - self._begins[rows, None]
        right = self._sizes[rows, None] - 1 - left
        return np.where((left >= 0) & (right >= 0), np.minimum(left, right) + 0.01 * self._sizes[rows, None], -np.inf)

    def characters(self, row: int, start: int, end: int) -> tuple[int, int]:
        """The characters of the context that tokens `start` to `end` (inclusive, positions in the record) cover."""
        context = self.contexts[self._context_of[row]]
        shift = self._begins[row] - self._prefix[row]
        return int(context.starts[start + shift]), int(context.ends[end + shift])


def squad_columns(max_seq_length: int, is_training: bool) -> dict[str, tuple[str, int]]:
    """The columns of a question-answering record."""
    S = max_seq_length
    columns = {"unique_ids": ("int32", 1), "input_ids": ("int32", S), "input_mask": ("int32", S),
               "segment_ids": ("int32", S)}
    answers = {"start_positions": ("int32", 1), "end_positions": ("int32", 1), "is_impossible": ("int32", 1)}
    return columns | answers if is_training else columns


def report_lines(features: SquadFeatures, shown_notes: int = 10) -> list[str]:
    """What the user should know about the records of a file: counts, bad annotation, a wrong vocabulary."""
    path = features.files[0]
    lines = [f"{path}: {len(features.examples)} questions, {len(features.texts)} contexts, "
             f"{features.num_rows} records"]
    if features.num_realigned:
        lines.append(f"note: {path}: {features.num_realigned} answers do not begin exactly where they are annotated; "
                     f"they were found in the words there")
    if features.notes:
        lines.append(f"note: {path}: {len(features.notes)} questions have a bad annotation or an empty context; "
                     f"{features.num_left_out} are left out:")
        lines += [f"  {note}" for note in features.notes[:shown_notes]]
    if len(features.notes) > shown_notes:
        lines.append(f"  and {len(features.notes) - shown_notes} more")
    if features.unknown_share > UNKNOWN_SHARE_LIMIT:
        lines.append(f"warning: {path}: {features.unknown_share:.0%} of the contexts' tokens are [UNK]; is the "
                     f"vocabulary of another language, or do_lower_case wrong for it?")
    return lines
