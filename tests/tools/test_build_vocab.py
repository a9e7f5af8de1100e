"""Vocabularies built from text: their form, that our tokenizer can use them, that they never differ, and bad input."""

import os
import subprocess
import sys

import pytest
from paths import REPOSITORY

from src.errors import UserError
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary
from src.tools import build_vocab as module
from src.tools.build_vocab import build_vocab, main

TEXT = """The lowest prices are lower than the low ones; lower, lowest, slow and slower.
Widest is wider than wide, and the newest is newer than new.

天安门在北京，北京在中国。中国的首都是北京。
Überall Café, café und Straße; überall 10 000 Straßen.
"""


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT * 3, encoding="utf-8")
    return path


def test_first_the_special_tokens_then_the_alphabet_then_pieces(corpus):
    tokens = build_vocab([corpus], vocab_size=105)
    assert tokens[:5] == list(SPECIAL_TOKENS)
    assert len(tokens) == len(set(tokens)) == 105
    lengths = [len(token.removeprefix("##")) for token in tokens[5:]]
    letters = lengths.index(2)
    assert set(lengths[:letters]) == {1}
    assert min(lengths[letters:]) > 1
    alphabet = tokens[5:5 + letters]
    assert {"l", "##l", "ß", "##ß", "京", ";", "0", "##0"} <= set(alphabet)
    assert not {"##京", "##;", "L", "é", "ü"} & set(alphabet)


def test_most_frequent_pair_is_merged_first(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("aab " * 5 + "ab " * 4 + "cd " * 4 + "b " * 20)
    # a+##a 5, ##a+##b 5, a+##b 4, c+##d 4: equal counts in the order of the alphabet
    assert build_vocab([text], 100)[5:] == ["a", "b", "c", "d", "##a", "##b", "##c", "##d", "##ab", "aab", "ab", "cd"]
    assert build_vocab([text], 14)[13:] == ["##ab"]
    assert build_vocab([text], 100, min_frequency=5)[13:] == ["##ab", "aab"]


def test_runs_of_one_letter(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("aaaaaaa aaaa\n" * 2)
    tokens = build_vocab([text], 100)
    assert {"aaaaaaa", "aaaa"} <= set(tokens)
    assert FullTokenizer(Vocabulary(tokens)).tokenize("aaaaaaa aaaa") == ["aaaaaaa", "aaaa"]


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_counts_stay_right_while_merging(corpus, do_lower_case):
    words = module.count_words([corpus], do_lower_case)
    spelled = [([word[0], *("##" + c for c in word[1:])], count) for word, count in words.items()]
    merger = module._PairMerger(spelled)
    merges = 0
    while merger.merge_most_frequent(2):
        merges += 1
        fresh = module._PairMerger(zip(merger.words, merger.frequencies, strict=True))
        assert merger.counts == fresh.counts
        for pair, places in fresh.places.items():
            assert set(places) <= set(merger.places[pair])
    assert merges > 10


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_our_tokenizer_knows_every_word_of_the_text(corpus, do_lower_case):
    tokens = build_vocab([corpus], 1000, do_lower_case, min_frequency=1)
    tokenizer = FullTokenizer(Vocabulary(tokens), do_lower_case)
    # All words are merged to the end, so that each is one token.
    assert tokenizer.tokenize(TEXT) == tokenizer.basic_tokenizer.tokenize(TEXT)
    small = FullTokenizer(Vocabulary(build_vocab([corpus], 100, do_lower_case)), do_lower_case)
    assert "[UNK]" not in small.tokenize(TEXT)
    assert "[UNK]" not in small.tokenize("sweetest lawn")  # unseen words of letters that were seen


def test_few_unknown_tokens_on_real_text(shared_data):
    files = [shared_data / "text" / "wikitext-2" / "valid.txt", shared_data / "text" / "cn_wiki_sample.txt"]
    tokenizer = FullTokenizer(Vocabulary(build_vocab(files, 12000)))
    for file in files:
        ids = tokenizer.encode(file.read_text(encoding="utf-8"))
        assert ids.count(tokenizer.vocab.unk_id) < 1e-4 * len(ids)  # only words of more than 100 characters
        words = tokenizer.basic_tokenizer.tokenize(file.read_text(encoding="utf-8"))
        assert len(ids) < 1.15 * len(words)


def test_same_text_gives_the_same_file_in_every_process(corpus, tmp_path):
    contents = []
    for seed in ("1", "2"):
        output = tmp_path / seed / "vocab.txt"
        command = [sys.executable, REPOSITORY / "src" / "tools" / "build_vocab.py", "--input_file", corpus,
                   "--output_file", output, "--vocab_size", "105"]
        run = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=tmp_path, capture_output=True,
                             text=True)
        assert run.returncode == 0, run.stderr
        assert f"Wrote 105 tokens to {output}" in run.stdout
        contents.append(output.read_bytes())
    assert contents[0] == contents[1]
    assert Vocabulary.from_file(tmp_path / "1" / "vocab.txt").pad_id == 0


def test_files_directories_lists_and_repeated_options(corpus, tmp_path, capsys):
    folder = tmp_path / "texts"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha " * 3)
    (folder / "inner" / "b.txt").write_text("beta " * 3)
    output = tmp_path / "vocab.txt"
    main(["--input_file", str(folder), "--input_file", f"{corpus},{corpus}", "--output_file", str(output),
          "--vocab_size", "500", "--do_lower_case", "false"])
    tokens = Vocabulary.from_file(output).ids
    assert {"alpha", "beta", "The", "Überall"} <= tokens.keys()
    assert "fewer than 500" in capsys.readouterr().out


def test_limited_alphabet_keeps_the_most_frequent_characters(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("中 中 中 国 国 国 国 京 京 ab ab ж", encoding="utf-8")
    assert build_vocab([text], 100)[5:] == ["a", "b", "ж", "中", "京", "国", "##a", "##b", "ab"]
    assert build_vocab([text], 100, limit_alphabet=2)[5:] == ["中", "国"]
    assert build_vocab([text], 100, limit_alphabet=3)[5:] == ["a", "中", "国", "##a"]  # no "ab" without b


def test_memory_is_bounded_by_forgetting_the_rarest_words(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_COUNTED_WORDS", 50)
    monkeypatch.setattr(module, "CHUNK_CHARACTERS", 200)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"common word{number} rare{number}" for number in range(300)))
    words = module.count_words([text], do_lower_case=True)
    assert words["common"] > 250
    assert len(words) <= 50


def test_words_that_only_become_one_by_normalisation_count_together(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Café cafe\u0301 CAFÉ " + "x" * 101, encoding="utf-8")
    assert module.count_words([text], do_lower_case=True) == {"cafe": 3}


@pytest.mark.parametrize(("content", "options", "message"), [
    (b"", {}, "no words in"),
    (b" \n\n\t\n", {}, "no words in"),
    (b"good\nb\xe4d\n", {}, "line 2: byte 0xe4 is not UTF-8"),
    (b"abc abc", {"vocab_size": 10}, "--vocab_size is 10, but .* need 11; give more than that"),
    (b"abc abc", {"vocab_size": 0}, "--vocab_size is 0, expected at least 1"),
    (b"abc abc", {"min_frequency": 0}, "--min_frequency is 0"),
    (b"abc abc", {"limit_alphabet": 0}, "--limit_alphabet is 0"),
])
def test_bad_input_is_one_clear_line(tmp_path, content, options, message):
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        build_vocab([text], **{"vocab_size": 100} | options)
    assert "\n" not in str(caught.value)


def test_missing_input_and_unwritable_output(corpus, tmp_path):
    with pytest.raises(UserError, match="none.txt: no such file"):
        build_vocab([tmp_path / "none.txt"], 100)
    command = ["--input_file", str(corpus), "--vocab_size", "100", "--output_file"]
    with pytest.raises(UserError, match="--output_file: .* is a directory"):
        main([*command, str(tmp_path)])
    with pytest.raises(UserError, match="--output_file: cannot write to the directory"):
        main([*command, str(corpus / "vocab.txt")])
