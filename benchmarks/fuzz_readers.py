"""Read damaged files by every reader: whatever is in a file, it is read or refused by a `UserError`.

    python benchmarks/fuzz_readers.py --seconds 60
    python benchmarks/fuzz_readers.py --seconds 600 --seed 7 --reader yaml --findings tests/faults/findings

Small sound files are cut, flipped, repeated and spliced. Any other exception is a finding: it is printed with the seed
of its file, and with `--findings` the file is made as small as it can be and kept. tests/faults/test_findings.py
reads the kept ones again. At the end stands how many files each reader tried, and how many of them it took.
"""

import argparse
import json
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from toy_inputs import write_inputs  # noqa: E402

from src.checkpoint_files import find_newest  # noqa: E402
from src.errors import UserError, run_script  # noqa: E402
from src.exchange import huggingface, tensorflow_checkpoint  # noqa: E402
from src.exchange.model import Report  # noqa: E402
from src.generate_mindrecord.corpus import Corpus  # noqa: E402
from src.inference.cpp_inference import read_about, read_manifest  # noqa: E402
from src.inference.texts import read_items  # noqa: E402
from src.json_files import read_json  # noqa: E402
from src.model_utils.config import load_config  # noqa: E402
from src.model_utils.rank_table import read_hccn, read_rank_table  # noqa: E402
from src.records.about import read_about as read_about_records  # noqa: E402
from src.records.mindrecord import MindRecordFile  # noqa: E402
from src.records.reader import RecordFile, open_records  # noqa: E402
from src.records.text_rows import read_csv, read_json_lines, read_tsv  # noqa: E402
from src.records.tfrecord import TFRecordFile  # noqa: E402
from src.tasks.labelled_text import Labels  # noqa: E402
from src.tasks.ner.corpora import TaggedLines, read_cluener, read_msra  # noqa: E402
from src.tasks.ner.evaluated import evaluated_sentences  # noqa: E402
from src.tasks.ner.labels import LabelScheme  # noqa: E402
from src.tasks.ner.text import NUM_SPECIAL  # noqa: E402
from src.tasks.squad.examples import read_squad  # noqa: E402
from src.tokenization import Vocabulary  # noqa: E402
from src.tools import convert_checkpoint  # noqa: E402
from src.training.metrics_file import read_metrics  # noqa: E402
from src.weights import read_about as read_about_weights  # noqa: E402
from src.weights import read_weights  # noqa: E402

LARGEST = 1 << 20  # bytes; what grows larger by mutation is cut
PIECES = (b"\0", b"\xff", b"\n", b'"', b"[", b"{", b"-1", b"9" * 5000, b"1e999", b"NaN", b"null", b"true", b"\\ud800",
          b"*a", b"&a ", b"!!int ", b"2026-13-45", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"[" * 2000, b"\xff" * 8,
          b"\x7f" * 8, b"\0" * 8, b".inf", b"0x", b"<<: ", b"? ", b"---\n", b"\t", b"1:1:1", b"'", b"\\u0000", b"..")


class Reader(NamedTuple):
    """What reads a file, and which file (of those that `write_inputs` and `more_inputs` make) is damaged for it."""

    file: str
    read: Callable[[Path], object]


def all_of(file: RecordFile) -> None:
    """Read every record."""
    columns = {name: ("float32" if kind.startswith("float") else "int32", length)
               for name, (kind, length) in file.columns().items()}
    file.read(np.arange(len(file)), columns)


def schema(path: Path) -> object:
    """Open the TFRecord file beside a schema."""
    return open_records(path.with_name("train.tf_record"), "tfrecord", {"input_ids": "int32"}, schema_path=path)


def sentences(path: Path) -> object:
    """Lead the records that a file lies beside back to their sentences."""
    records = open_records(path.with_name("dev.tf_record"), "tfrecord", {"input_ids": "int32", "input_mask": "int32"})
    num_tokens = records.read(np.arange(records.num_rows))["input_mask"].sum(axis=1) - NUM_SPECIAL
    return evaluated_sentences(records, num_tokens.tolist(), None, "character")


READERS = {
    "yaml": Reader("pretrain_config.yaml",
                   lambda path: load_config("", "pretrain_config.yaml", ["--config_path", str(path)])),
    "ini": Reader("settings.ini", lambda path: load_config("", "pretrain_config.yaml", ["--ini_path", str(path)])),
    "json": Reader("squad/train.json", lambda path: read_json(path, "JSON")),
    "squad": Reader("squad/train.json", lambda path: read_squad(path, option="file")),
    "json_lines": Reader("jsonl/train.jsonl", lambda path: list(read_json_lines(path))),
    "items": Reader("jsonl/train.jsonl", lambda path: list(read_items(str(path), ("text",)))),
    "tsv": Reader("tsv/train.tsv", lambda path: list(read_tsv(path))),
    "csv": Reader("csv/train.csv", lambda path: list(read_csv(path))),
    "table_items": Reader("csv/train.csv", lambda path: list(read_items(str(path), ("text",)))),
    "about_records": Reader("ner/train.about.json",
                            lambda path: read_about_records([path.with_name("train.mindrecord")])),
    "cluener": Reader("ner/train.json", lambda path: list(read_cluener(path))),
    "tagged": Reader("conll.txt", lambda path: list(TaggedLines(path, " "))),
    "msra": Reader("msra.xml", read_msra),
    "corpus": Reader("wiki.txt", lambda path: list(Corpus([path], 1 << 20).chunks())),
    "book": Reader("book.txt", lambda path: list(Corpus([path], 1 << 20).documents())),
    "vocabulary": Reader("vocab.txt", Vocabulary.from_file),
    "labels": Reader("labels.txt", Labels.from_file),
    "types": Reader("ner/label_file", LabelScheme.from_file),
    "sentences": Reader("ner/dev.sentences.jsonl", sentences),
    "type_ids": Reader("label2id.json", LabelScheme.from_file),
    "metrics": Reader("metrics.jsonl", read_metrics),
    "rank_table": Reader("hccl.json", read_rank_table),
    "hccn": Reader("hccn.conf", read_hccn),
    "description": Reader("model/model.json", lambda path: read_about(str(path))),
    "manifest": Reader("inputs/manifest.json", lambda path: read_manifest(path.parent)),
    "schema": Reader("dataset.json", schema),
    "mindrecord": Reader("train.mindrecord", lambda path: all_of(MindRecordFile(path))),
    "mindrecord_index": Reader("train.mindrecord.db", lambda path: all_of(MindRecordFile(path.with_suffix("")))),
    "tfrecord": Reader("train.tf_record", lambda path: all_of(TFRecordFile(path))),
    "checkpoint": Reader("classifier.ckpt", read_weights),
    "checkpoint_manifest": Reader("training/checkpoint_bert-1_2.json", lambda path: find_newest(path.parent)),
    "about_weights": Reader("classifier.about.json",
                            lambda path: read_about_weights(path.with_name("classifier.ckpt"))),
    "hf_config": Reader("hf/config.json", lambda path: huggingface.read(path.parent, None, Report())),
    "hf_tokenizer": Reader("hf/tokenizer_config.json", lambda path: huggingface.read(path.parent, None, Report())),
    "hf_safetensors": Reader("hf/model.safetensors", lambda path: huggingface.read(path.parent, None, Report())),
    "hf_pickle": Reader("pickle/pytorch_model.bin", lambda path: huggingface.read(path.parent, None, Report())),
    "tf_config": Reader("tf/bert_config.json", lambda path: tensorflow_checkpoint.read(
        path.with_name("bert_model.ckpt"), None, Report())),
    "tf_index": Reader("tf/bert_model.ckpt.index", lambda path: tensorflow_checkpoint.read(
        path.with_name("bert_model.ckpt"), None, Report())),
}


def more_inputs(folder: Path, with_tensorflow: bool = True) -> None:
    """Sound files of the kinds that only this program needs."""
    texts = {
        "msra.xml": '<TEXT><SENTENCE><w>a</w><NAMEX TYPE="PERSON">b</NAMEX></SENTENCE></TEXT>',
        "wiki.txt": '<doc id="1" title="A">\nA\ntext\n</doc>\n{"id": "2", "title": "B", "text": "more\\ntext"}\n',
        "book.txt": "*** START OF THE PROJECT GUTENBERG EBOOK A ***\n"
                    + ("A line full of words, as in books\n" * 9 + "\n") * 3
                    + "*** END OF THE PROJECT GUTENBERG EBOOK A ***\n",
        "label2id.json": '{"O": 0, "S_a": 1, "B_a": 2, "M_a": 3, "E_a": 4, "<START>": 5, "<STOP>": 6}',
        "metrics.jsonl": '{"step": 1, "epoch": 0.5, "loss": 2.5}\n{"step": 2, "accuracy": 0.5}\n',
        "hccn.conf": "address_0=192.168.100.101\naddress_1=192.168.100.102\n",
        "training/checkpoint_bert-1_2.json": '{"format_version": 1, "epoch": 1, "step": 2, "serial": 1, '
                                             '"metadata": {}, "files": {}, "crc32": "569deac3"}',
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    compact(folder / "train.mindrecord")
    shutil.copyfile(REPOSITORY / "pretrain_config.yaml", folder / "pretrain_config.yaml")
    shutil.copytree(folder / "hf", folder / "pickle")
    (folder / "pickle" / "model.safetensors").rename(folder / "pickle" / "pytorch_model.bin")
    ours = folder / "ours"
    convert_checkpoint.main(["--input_path", str(folder / "hf"), "--output_dir", str(ours)])
    if not with_tensorflow:
        return
    convert_checkpoint.main(["--input_path", str(ours / "classifier.ckpt"), "--output_dir", str(folder / "tf"),
                             "--output_format", "tensorflow", "--config_path", str(ours / "classifier.yaml")])


def compact(path: Path, page_size: int = 4096) -> None:
    """Make pages and header of a MindRecord file as small as what they hold, so that damage hits something."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    begin, old = header["header_size"], header["page_size"]
    pages = {page["page_id"]: content[begin + page["page_id"] * old:][:page["page_size"]] for page in header["page"]}
    text = json.dumps(header | {"header_size": page_size, "page_size": page_size}).encode()
    parts = [struct.pack("<Q", len(text)) + text, *(pages[number] for number in sorted(pages))]
    path.write_bytes(b"".join(part.ljust(page_size, b"\0") for part in parts))


def mutated(content: bytes, places: np.ndarray, generator: random.Random) -> bytes:
    """The content with one to four changes at some of these places."""
    for _ in range(generator.randint(1, 4)):
        place = min(len(content), int(places[generator.randrange(len(places))]))
        end = min(len(content), place + generator.choice((1, 1, 2, 8, 64, 1000)))
        head, middle, tail = content[:place], content[place:end], content[end:]
        piece = generator.choice(PIECES)
        bit = 1 << generator.randrange(8)
        changed = generator.choice((b"", piece, middle + piece, middle * generator.randint(2, 50),
                                    generator.randbytes(len(middle)), bytes(byte ^ bit for byte in middle)))
        content = head + changed + (tail if generator.random() < 0.9 else b"")
    return content[:LARGEST]


def outcome(reader: Reader, path: Path, content: bytes) -> Exception | None:
    """What a reader raises for a content that is no `UserError`; None also when it takes it."""
    path.write_bytes(content)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            reader.read(path)
    except UserError as error:
        message = str(error)
        return ValueError(f"more than one line: {message!r}") if "\n" in message or len(message) > 2100 else None
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return error
    return None


def smallest(reader: Reader, path: Path, content: bytes, kind: type[Exception]) -> bytes:
    """The content without everything that can go while the same kind of exception stays."""
    size = len(content) // 2
    while size:
        place = 0
        while place < len(content):
            shorter = content[:place] + content[place + size:]
            if type(outcome(reader, path, shorter)) is kind:
                content = shorter
            else:
                place += size
        size //= 2
    return content


def fuzz(name: str, folder: Path, seconds: float, seed: int, findings: Path | None) -> tuple[int, set[str]]:
    """Try damaged files for some seconds; return their number and the different exceptions."""
    reader, tried, found = READERS[name], 0, set()
    path = folder / reader.file
    sound = path.read_bytes()
    places = np.flatnonzero(np.frombuffer(sound + b".", np.uint8))  # record files consist of padding
    error = outcome(reader, path, sound)
    if error and name != "hf_pickle":
        raise error
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutated(sound, places, random.Random(f"{name} {seed} {tried}"))
        error = outcome(reader, path, content)
        if error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
            if kind not in found:
                found.add(kind)
                print(f"{name}: seed {seed}, file {tried}: {kind}: {str(error)[:200]}", flush=True)
                if findings:
                    kept = findings / f"{name}-{len(list(findings.glob(f'{name}-*')))}"
                    kept.write_bytes(smallest(reader, path, content, type(error)))
        tried += 1
    path.write_bytes(sound)
    return tried, found


def main(argv: list[str] | None = None) -> None:
    """Try every reader for the same time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=60, help="time of all readers together (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another one damages the files otherwise")
    parser.add_argument("--reader", choices=READERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--findings", type=Path, help="folder that keeps the smallest file of each finding")
    arguments = parser.parse_args(argv)
    names, total = arguments.reader or list(READERS), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with redirect_stdout(StringIO()):
            write_inputs(folder)
            more_inputs(folder)
        for name in names:
            tried, found = fuzz(name, folder, arguments.seconds / len(names), arguments.seed, arguments.findings)
            print(f"{name:20} {tried:7} files, {len(found)} findings", flush=True)
            total += len(found)
    if total:
        raise UserError(f"{total} findings")


if __name__ == "__main__":
    run_script(main)
