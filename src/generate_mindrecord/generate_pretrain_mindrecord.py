"""Make pre-training records (masked sentence pairs) from raw text: MindRecord or TFRecord.

The text is read in chunks of bounded size. Worker processes turn chunks into instances, and this process writes them in
the order of the chunks. All random choices in a chunk come from (random_seed, chunk number, duplicate), so the
number of workers changes nothing in the result, and memory does not grow with the text. Instances are shuffled within
their chunk; random next sentences come from other documents of the same chunk. A document larger than a quarter of a
chunk is cut into pieces of that size.
"""

import argparse
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, run_script  # noqa: E402
from src.files import check_output, check_room, is_passed_on  # noqa: E402
from src.generate_mindrecord.corpus import JOIN_LINES, Chunk, Corpus, Selection, find_input_files  # noqa: E402
from src.generate_mindrecord.pretrain_instances import (  # noqa: E402
    SEGMENTERS,
    InstanceMaker,
    InstanceOptions,
    Instances,
)
from src.generate_mindrecord.shard import WHOLE, EmptyShardError, Shard  # noqa: E402
from src.model_utils.switch import SWITCH  # noqa: E402
from src.records.about import accompany  # noqa: E402
from src.records.columns import DATASET_FORMATS, pretrain_columns  # noqa: E402
from src.records.reader import RECORD_FILE_NAMES  # noqa: E402
from src.records.writer import RecordWriter, write_schema_json  # noqa: E402
from src.tokenization import Vocabulary  # noqa: E402
from src.worker_processes import Worker  # noqa: E402

# Large enough for a good choice of random next sentences and to keep the cost of handing chunks over small; the
# instances of one chunk take about 10 MB for every 5 duplicates.
CHUNK_CHARACTERS = 400_000
MAX_DUPLICATES_OF_FULL_CHUNK = 10  # with more duplicates the chunks shrink, so that their instances take no more room
RECORD_BYTES = 2.1  # of records for a byte of text: measured for English, where Chinese has more tokens in a byte
BYTES_WORTH_A_WORKER = 4_000_000  # about a second of work; a process takes half of that to start


class CorpusSummary(NamedTuple):
    """What a run has made, and in how many seconds."""

    instances: int
    documents: int
    sentences: int
    seconds: float


def generate(options: InstanceOptions, input_file: str, output_file: str, vocab_file: str | Path,
             dataset_format: str = "mindrecord", num_workers: int | None = None,
             schema_file: str | Path | None = None, join_lines: str = "auto", held_out_every: int = 0,
             held_out_file: str | Path | None = None, shard: Shard = WHOLE) -> CorpusSummary:
    """Make record files from text files; see the options of the command for the meaning of the arguments.

    Returns:
        What was made of the documents that are not held out.

    Raises:
        UserError: an input is missing, empty or not UTF-8; an output cannot be written; an option makes no sense.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"--num_workers is {num_workers}, expected at least 1")
    if schema_file is not None:
        if dataset_format != "tfrecord":
            raise UserError("--schema_file describes TFRecord files; it needs --dataset_format tfrecord")
        check_output(schema_file, "--schema_file")
    files = find_input_files(input_file)
    outputs = _find_outputs(output_file, files, shard)
    held_out = _held_out_output(held_out_every, held_out_file, files, outputs, shard)
    shard.check_others([*outputs, *([held_out] if held_out else [])])
    vocab = Vocabulary.from_file(vocab_file)
    duplicates = max(options.dupe_factor, MAX_DUPLICATES_OF_FULL_CHUNK)

    def corpus_of(selection: Selection) -> Corpus:
        return Corpus(files, CHUNK_CHARACTERS * MAX_DUPLICATES_OF_FULL_CHUNK // duplicates, join_lines, selection)

    corpus = corpus_of(Selection(held_out_every))
    if num_workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        num_workers = min(cores, 1 + corpus.size // shard.count // BYTES_WORTH_A_WORKER)
    _check_room(outputs, options.dupe_factor * corpus.size / shard.count)
    print(f"reading {corpus.size / 1e6:.1f} MB, number of files: {len(files)}", flush=True)
    summary = _write_records(corpus, vocab, options, outputs, dataset_format, num_workers, shard)
    if schema_file is not None:
        # The same from every machine, none of which knows how many instances the others make.
        columns = pretrain_columns(options.max_seq_length, options.max_predictions_per_seq)
        write_schema_json(schema_file, columns, summary.instances if shard.is_whole else None)
    written = list(outputs)
    if held_out:
        try:
            # For an evaluation the same sentences in several ways say nothing more.
            _write_records(corpus_of(Selection(held_out_every, held_out=True)), vocab, replace(options, dupe_factor=1),
                           [held_out], dataset_format, num_workers, shard)
            written.append(held_out)
        except EmptyShardError:  # they are few, and the other machines have them
            print(f"note: no held-out instances are in shard {shard}, those before have them all")
    accompany(written, vocab_file,
              {"task": "pretrain", "do_lower_case": options.do_lower_case, "max_seq_length": options.max_seq_length,
               "source": input_file, **({} if shard.is_whole else {"shard": str(shard)})})
    return summary


def _write_records(corpus: Corpus, vocab: Vocabulary, options: InstanceOptions, outputs: Sequence[Path],
                   dataset_format: str, num_workers: int, shard: Shard) -> CorpusSummary:
    """Write the instances of a corpus, or of a shard of it, and say what was made."""
    started = time.monotonic()
    columns = pretrain_columns(options.max_seq_length, options.max_predictions_per_seq)
    instances = sentences = without_random = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(RecordWriter(output, columns, dataset_format)) for output in outputs]
        progress = stack.enter_context(tqdm(total=corpus.size, unit="B", unit_scale=True, disable=None))
        made = stack.enter_context(closing(_make_in_order(shard.chunks_of(corpus), vocab, options, num_workers)))
        for bytes_read, block in made:
            for number, writer in enumerate(writers):  # instance i of all goes to file i modulo the number of files
                own = slice((number - instances) % len(writers), None, len(writers))
                writer.write({name: values[own] for name, values in block.columns.items()})
            instances += len(block)
            sentences += block.num_sentences
            without_random += block.num_without_random
            progress.set_postfix_str(f"{instances} instances", refresh=False)
            progress.update(bytes_read - progress.n)
        shard.check_chunks(corpus)
        if instances == 0:
            held_out = f" of the {corpus.num_selected} documents held out" if corpus.selection.held_out else ""
            raise UserError(f"--input_file: no instance can be made of {sentences} sentences{held_out} in "
                            f"{len(corpus.files)} files; give text with one sentence a line and a blank line between "
                            f"documents")
    summary = CorpusSummary(instances, corpus.num_selected, sentences, time.monotonic() - started)
    _report(summary, outputs, corpus, without_random, dataset_format, shard)
    return summary


def _find_outputs(output_file: str, inputs: Sequence[Path], shard: Shard) -> list[Path]:
    outputs = [shard.file(Path(part.strip())) for part in output_file.split(",") if part.strip()]
    if not outputs:
        raise UserError("--output_file is empty; give the name of the file to write")
    taken = {path.resolve() for path in inputs}
    for output in outputs:
        if output.resolve() in taken:
            raise UserError(f"--output_file: {output} is an input file or named twice; give another name")
        taken.add(output.resolve())
        check_output(output, "--output_file")
    return outputs


def _held_out_output(every: int, file: str | Path | None, inputs: Sequence[Path], outputs: Sequence[Path],
                     shard: Shard) -> Path | None:
    """The file for the records of the documents that are held out; None if there are none."""
    if not every:
        if file is not None:
            raise UserError("--held_out_file needs --held_out_every N, which says how many documents are held out")
        return None
    if every == 1 or every < 0:
        raise UserError(f"--held_out_every is {every}, expected at least 2, or 0 to hold nothing out")
    output = shard.file(Path(file)) if file is not None else _beside(outputs[0].parent) / outputs[0].name
    if any(other.resolve().parent in output.resolve().parents for other in outputs):
        raise UserError(f"--held_out_file: {output} lies in the directory of {outputs[0]}, where a training would "
                        f"read it as well; give a file in another directory")
    if output.resolve() in {path.resolve() for path in inputs}:
        raise UserError(f"--held_out_file: {output} is an input file; give another name")
    return check_output(output, "--held_out_file")


def _beside(directory: Path) -> Path:
    """Where the records that are held out go, not below those to train on, since a training reads these folders too."""
    directory = directory if directory.name not in ("", "..") else directory.resolve()
    return directory.with_name(f"{directory.name}_eval")


def _check_room(outputs: Sequence[Path], text_bytes: float) -> None:
    """Compare the size of the records, expected from that of the text in all duplicates, with what is free."""
    each = RECORD_BYTES * text_bytes / len(outputs)
    for directory, number in Counter(output.parent for output in outputs if not is_passed_on(output)).items():
        check_room(directory, "the records of this text take", number * each, number * each)


def print_notes(corpus: Corpus, advice: str = "") -> None:
    """Say what was joined and left out of a corpus that was read, with advice for who does not want it joined."""
    if corpus.joined_lines:
        print(f"joined {corpus.joined_lines} hard-wrapped lines to {corpus.joined_paragraphs} paragraphs, which are "
              f"split into sentences by punctuation{advice}")
    if corpus.licence_lines:
        print(f"left out {corpus.licence_lines} lines outside of Project Gutenberg's START and END of the book")


def _report(summary: CorpusSummary, outputs: Sequence[Path], corpus: Corpus, without_random: int,
            dataset_format: str, shard: Shard) -> None:
    for output in outputs:
        if not RECORD_FILE_NAMES[dataset_format].search(output.name):
            print(f"note: training looks for files with {dataset_format!r} in their name, unlike {output.name}")
    if not corpus.selection.held_out:  # it has said so before
        print_notes(corpus, "; --join_lines false takes every line as a sentence")
    if corpus.num_split_documents:
        print(f"note: {corpus.num_split_documents} documents of more than {corpus.chunk_characters // 4} characters "
              f"were cut into pieces")
    if without_random:
        print(f"note: {without_random} instances hold the true next sentence, as there was no other document to take "
              f"a random one from; separate documents by blank lines")
    held_out = "held-out" if corpus.selection.held_out else "total"
    print(f"Wrote {summary.instances} {held_out} instances to {', '.join(map(str, outputs))}")
    documents = "documents," if shard.is_whole else f"documents read; shard {shard}:"
    print(f"{summary.documents} {documents} {summary.sentences} sentences, {summary.seconds:.1f} s, "
          f"{summary.instances / summary.seconds:.0f} instances/s")


def _make_in_order(chunks: Iterable[Chunk], vocab: Vocabulary, options: InstanceOptions,
                   num_workers: int) -> Generator[tuple[int, Instances], None, None]:
    """Instances of each chunk, in order, and how many bytes of the corpus they bring us to.

    A worker has one chunk at a time, so that no more than `num_workers` chunks are in memory.
    """
    maker = InstanceMaker(vocab, options)  # also finds a wrong option before any process is started
    if num_workers == 1:
        for chunk in chunks:
            yield chunk.bytes_read, maker.make(chunk)
        return
    workers, busy = [], deque()
    try:
        for _ in range(num_workers):
            workers.append(Worker(_maker_of_chunks))
        for worker in workers:  # all are starting by now; sending waits until the worker can receive
            worker.send((vocab, options))
        idle = deque(workers)
        for chunk in chunks:
            finished = None
            if idle:
                worker = idle.popleft()
            else:
                worker, bytes_read = busy.popleft()
                finished = bytes_read, _result_of(worker)
            worker.begin(chunk)
            busy.append((worker, chunk.bytes_read))
            if finished:
                yield finished
        for worker, bytes_read in busy:
            yield bytes_read, _result_of(worker)
    finally:
        for worker in workers:
            worker.stop()


def _maker_of_chunks(vocab: Vocabulary, options: InstanceOptions) -> Callable[[Chunk], Iterable[Instances]]:
    """What a worker does with a chunk."""
    maker = InstanceMaker(vocab, options)
    return lambda chunk: (maker.make(chunk),)


def _result_of(worker: Worker) -> Instances:
    """The one result of the chunk that a worker has."""
    result = worker.receive()
    worker.receive()  # Mark.END
    return result


def _parser() -> argparse.ArgumentParser:
    defaults = InstanceOptions()
    parser = argparse.ArgumentParser(description="Make pre-training records from raw text.", allow_abbrev=False)
    add = parser.add_argument
    add("--input_file", required=True, metavar="PATH",
        help="text: a file, a directory, a glob pattern or a comma-separated list of them. One sentence a line and a "
             "blank line between documents, or the output of WikiExtractor (with or without its --json)")
    add("--output_file", required=True, metavar="FILE",
        help="record file to write; instances are dealt out to several if they are separated by commas")
    add("--vocab_file", required=True, metavar="FILE", help="vocabulary that the model is trained on")
    add("--do_lower_case", default=defaults.do_lower_case, **SWITCH,
        help="for an uncased vocabulary (default true)")
    add("--do_whole_word_mask", default=defaults.do_whole_word_mask, **SWITCH,
        help="mask all the pieces of a word together (default false)")
    add("--max_seq_length", type=int, default=defaults.max_seq_length, metavar="N", help="default %(default)s")
    add("--max_predictions_per_seq", type=int, default=defaults.max_predictions_per_seq, metavar="N",
        help="masked tokens in an instance at most (default %(default)s)")
    add("--random_seed", type=int, default=defaults.random_seed, metavar="N", help="default %(default)s")
    add("--dupe_factor", type=int, default=defaults.dupe_factor, metavar="N",
        help="how often the text is gone through, with other masks each time (default %(default)s)")
    add("--masked_lm_prob", type=float, default=defaults.masked_lm_prob, metavar="P",
        help="share of tokens that are masked (default %(default)s)")
    add("--short_seq_prob", type=float, default=defaults.short_seq_prob, metavar="P",
        help="share of documents with instances shorter than max_seq_length (default %(default)s)")
    add("--segmenter", choices=SEGMENTERS, default=defaults.segmenter,
        help="how words are found in Chinese text for --do_whole_word_mask; none masks each character by itself "
             "(default %(default)s)")
    add("--join_lines", choices=JOIN_LINES, default="auto",
        help="join the lines of a paragraph, and split it into sentences by punctuation; auto does so with "
             "hard-wrapped text (default %(default)s)")
    add("--held_out_every", type=int, default=0, metavar="N",
        help="keep every N-th document for the evaluation, in record files of its own (default %(default)s: none)")
    add("--held_out_file", metavar="FILE",
        help="record file of the documents that are held out (default: the name of --output_file in the folder …_eval "
             "beside it)")
    add("--shard", type=Shard.parse, default=WHOLE, metavar="I/N",
        help="for N machines that share the text, of which this is number I, such as 2/8 with 1 <= I <= N: write the "
             "instances of every N-th chunk only, to record files with _I_of_N in their names; together the machines "
             "write those of one run (default: all, under the name as given)")
    add("--dataset_format", choices=DATASET_FORMATS, default="mindrecord", help="default %(default)s")
    add("--schema_file", metavar="FILE", help="also write the schema file of the TFRecord files")
    add("--num_workers", type=int, metavar="N",
        help="worker processes (default: one for each core, fewer for a small text)")
    return parser


def main(argv: Sequence[str] | None = None) -> CorpusSummary:
    """Run the command with `argv`, by default the process's own arguments."""
    given = vars(_parser().parse_args(argv))
    options = InstanceOptions(**{field.name: given.pop(field.name) for field in fields(InstanceOptions)})
    return generate(options, **given)


if __name__ == "__main__":
    run_script(main)
