"""Machines that share a corpus: together they write what one run writes, and none stands in another's way."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import src.generate_mindrecord.generate_pretrain_mindrecord as generator
from src.errors import UserError
from src.generate_mindrecord.corpus import Corpus, Selection
from src.generate_mindrecord.pretrain_instances import InstanceMaker
from src.generate_mindrecord.shard import Shard
from src.records.about import read_about
from src.records.columns import pretrain_columns
from src.records.reader import open_records
from src.tokenization import SPECIAL_TOKENS

WORDS = [f"w{index:03}" for index in range(150)]
COLUMNS = {name: dtype for name, (dtype, _) in pretrain_columns(32, 5).items()}
CHUNK = 4_000  # characters


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, *WORDS]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    rng = random.Random(0)
    sentences = [[" ".join(rng.choices(WORDS, k=rng.randint(3, 25))) for _ in range(rng.randint(2, 12))]
                 for _ in range(80)]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join("\n".join(document) for document in sentences) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(generator, "CHUNK_CHARACTERS", CHUNK)


def run(text, output, vocab_file, *options):
    return generator.main(["--input_file", str(text), "--output_file", str(output), "--vocab_file", str(vocab_file),
                           "--max_seq_length", "32", "--max_predictions_per_seq", "5", "--dupe_factor", "2",
                           "--num_workers", "1", *options])


def instances(path, dataset_format="mindrecord", **options):
    """How often each record is there."""
    records = open_records(path, dataset_format, COLUMNS, **options)
    columns = records.read(np.arange(records.num_rows))
    return Counter(b"".join(values[row].tobytes() for values in columns.values()) for row in range(records.num_rows))


def test_shards_together_are_one_run(tmp_path, text, vocab_file):
    options = ("--held_out_every", "4", "--held_out_file")
    whole = run(text, tmp_path / "whole" / "a.mindrecord", vocab_file, *options, str(tmp_path / "e" / "a.mindrecord"))
    shards = [run(text, tmp_path / "train" / "a.mindrecord", vocab_file, *options,
                  str(tmp_path / "eval" / "a.mindrecord"), "--shard", f"{number}/3") for number in (3, 1, 2)]
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == sorted(
        ["vocab.txt", *(f"a_{number}_of_3.{end}" for number in (1, 2, 3)
                        for end in ("mindrecord", "mindrecord.db", "about.json"))])
    assert min(shard.instances for shard in shards) > 100
    assert sum(shard.instances for shard in shards) == whole.instances
    assert sum(shard.sentences for shard in shards) == whole.sentences
    # A training opens the folder.
    assert instances(tmp_path / "train") == instances(tmp_path / "whole")
    assert instances(tmp_path / "eval") == instances(tmp_path / "e")
    about = read_about(open_records(tmp_path / "train", "mindrecord", COLUMNS).files)
    assert about["shard"] == "1/3" and about["task"] == "pretrain"


def test_a_schema_of_shards_limits_nothing(tmp_path, text, vocab_file):
    schema = tmp_path / "schema.json"
    contents = []
    for number in (1, 2):
        run(text, tmp_path / "train" / "a.tfrecord", vocab_file, "--dataset_format", "tfrecord", "--schema_file",
            str(schema), "--shard", f"{number}/2")
        contents.append(schema.read_bytes())
    assert contents[0] == contents[1] and "numRows" not in json.loads(contents[0])
    found = instances(tmp_path / "train", "tfrecord", schema_path=schema)
    run(text, tmp_path / "whole.tfrecord", vocab_file, "--dataset_format", "tfrecord", "--schema_file", str(schema))
    assert found == instances(tmp_path / "whole.tfrecord", "tfrecord", schema_path=schema)


@pytest.mark.parametrize("num_workers", ["1", "2"])
def test_only_own_chunks_are_tokenized(tmp_path, text, vocab_file, monkeypatch, num_workers):
    count = len(list(Corpus([text], CHUNK).chunks()))
    made = []
    if num_workers == "1":
        tokenize = InstanceMaker.tokenize
        monkeypatch.setattr(InstanceMaker, "tokenize",
                            lambda maker, chunk: made.append(chunk.number) or tokenize(maker, chunk))
    else:
        begin = generator.Worker.begin
        monkeypatch.setattr(generator.Worker, "begin",
                            lambda worker, chunk: made.append(chunk.number) or begin(worker, chunk))
    run(text, tmp_path / "a.mindrecord", vocab_file, "--shard", "2/3", "--num_workers", num_workers)
    assert count > 5 and made == list(range(1, count, 3))


def test_few_held_out_documents(tmp_path, text, vocab_file, capsys):
    """They make one chunk, so one machine has it, and the other writes no file of none."""
    assert len(list(Corpus([text], CHUNK, selection=Selection(20, held_out=True)).chunks())) == 1
    for number in (1, 2):
        run(text, tmp_path / "t" / "a.mindrecord", vocab_file, "--held_out_every", "20", "--shard", f"{number}/2")
    assert "note: no held-out instances are in shard 2/2" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "t_eval").iterdir()) == [
        "a_1_of_2.about.json", "a_1_of_2.mindrecord", "a_1_of_2.mindrecord.db", "vocab.txt"]


def test_more_machines_than_chunks(tmp_path, text, vocab_file):
    count = len(list(Corpus([text], CHUNK).chunks()))
    with pytest.raises(UserError, match=rf"--shard {count + 1}/99: the text makes {count} chunks of {CHUNK} characters "
                                        rf".*share it among {count} machines at most"):
        run(text, tmp_path / "out" / "a.mindrecord", vocab_file, "--shard", f"{count + 1}/99")
    assert not list((tmp_path / "out").iterdir())
    assert run(text, tmp_path / "out" / "a.mindrecord", vocab_file, "--shard", f"{count}/99").instances


@pytest.mark.parametrize("beside", ["a.mindrecord", "a_1_of_4.mindrecord", "a_2_of_16.mindrecord"])
def test_another_division_in_the_folder(tmp_path, text, vocab_file, beside):
    (tmp_path / beside).touch()
    with pytest.raises(UserError, match=rf"--shard 2/8: .*{beside} lies beside a_2_of_8.mindrecord") as raised:
        run(text, tmp_path / "a.mindrecord", vocab_file, "--shard", "2/8")
    assert "\n" not in str(raised.value)


def test_other_files_in_the_folder(tmp_path, text, vocab_file):
    for name in ("a_1_of_3.mindrecord", "b.mindrecord", "a.txt", "ba_2_of_7.mindrecord"):
        (tmp_path / name).touch()
    for _ in range(2):  # the second time over its own
        made = run(text, tmp_path / "a.mindrecord", vocab_file, "--shard", "2/3")
        assert instances(tmp_path / "a_2_of_3.mindrecord").total() == made.instances


def test_one_machine_of_one_does_everything(tmp_path, text, vocab_file):
    run(text, tmp_path / "a.tfrecord", vocab_file, "--dataset_format", "tfrecord")
    run(text, tmp_path / "1" / "a.tfrecord", vocab_file, "--dataset_format", "tfrecord", "--shard", "1/1")
    for name in ("a.tfrecord", "a.about.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_names():
    shard = Shard.parse("2/8")
    assert shard.file(Path("x/wiki.txt.mindrecord")) == Path("x/wiki.txt_2_of_8.mindrecord")
    assert shard.file(Path("mindrecord")) == Path("mindrecord_2_of_8")
    assert shard.file(Path("/dev/stdout")) == Path("/dev/stdout")


@pytest.mark.parametrize("wrong", ["0/8", "9/8", "2", "2/", "/8", "-1/8", "1/0", "2/8/1", "two/8", "1.0/2", ""])
def test_what_is_no_shard(wrong):
    with pytest.raises(UserError, match=r"--shard .*: expected I/N such as 2/8 with 1 <= I <= N"):
        Shard.parse(wrong)
