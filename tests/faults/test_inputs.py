"""Bad inputs of every command: each must end in one line that names what is wrong, and leave nothing half-written.

Two tables make the rows: READS says which command reads which kind of file by which option, BAD what can be wrong with
such a file and what the line must name. A third, OPTIONS, is about command lines alone.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from toy_inputs import DESCRIPTION, MAINS, RANK_TABLE, commands, left_in, write_inputs

from src.errors import run_script

MISSING, FOLDER, PIPE = "missing", "folder", "pipe"  # in the place of contents
DIGITS = "9" * 5000
LONG_NAME = "n" * 300
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
DEEP = '{"a": ' + "[" * 100_000

# command, kind of the file, option, what the option is given, the file (folders of the sound inputs are copied)
READS = """
    run_pretrain        yaml      --config_path             own.yaml             own.yaml
    pretrain_eval       yaml      --config_path             own.yaml             own.yaml
    run_classifier      yaml      --config_path             own.yaml             own.yaml
    run_ner             yaml      --config_path             own.yaml             own.yaml
    run_squad           yaml      --config_path             own.yaml             own.yaml
    predict             yaml      --config_path             own.yaml             own.yaml
    export              yaml      --config_path             own.yaml             own.yaml
    run_eval_onnx       yaml      --config_path             own.yaml             own.yaml
    preprocess          yaml      --config_path             own.yaml             own.yaml
    run_pretrain        ini       --ini_path                own.ini              own.ini
    run_classifier      ini       --ini_path                own.ini              own.ini
    rank_table          ini       --hyper_parameter_config_dir  own.ini          own.ini
    rank_table          json      --hccl_config             hccl.json            hccl.json
    rank_table          table     --hccl_config             hccl.json            hccl.json
    run_pretrain        json      RANK_TABLE_FILE           hccl.json            hccl.json
    run_pretrain        table     RANK_TABLE_FILE           hccl.json            hccl.json
    run_squad           json      --train_data_file_path    new.json             new.json
    run_squad           squad     --train_data_file_path    new.json             new.json
    run_squad           json      --eval_json_path          new.json             new.json
    generate_squad      json      --train_file              new.json             new.json
    generate_squad      squad     --train_file              new.json             new.json
    predict             json      --model                   model/model.mindir   model/model.json
    predict             about     --model                   model/model.mindir   model/model.json
    preprocess          json      --model_path              model/model.mindir   model/model.json
    preprocess          about     --model_path              model/model.mindir   model/model.json
    postprocess         json      --preprocess_path         inputs               inputs/manifest.json
    convert_checkpoint  json      --input_path              hf                   hf/config.json
    convert_checkpoint  config    --input_path              hf                   hf/config.json
    convert_checkpoint  index     --input_path              hf                   hf/model.safetensors.index.json
    run_ner             json      --label_file_path         types.json           types.json
    run_ner             types     --label_file_path         types                types
    generate_cluener    types     --label_file              types                types
    generate_conll      types     --label_file              types                types
    run_classifier      labels    --label_file_path         names                names
    predict             labels    --label_file_path         names                names
    generate_glue       labels    --label_file              names                names
    predict             items     --input_file              new.jsonl            new.jsonl
    generate_glue       lines     --data_dir                jsonl                jsonl/train.jsonl
    generate_tnews      lines     --data_dir                tnews                tnews/train.json
    generate_cluener    lines     --data_dir                cluener              cluener/train.json
    generate_cluener    cluener   --data_dir                cluener              cluener/train.json
    generate_glue_tsv   columns   --data_dir           tsv                  tsv/train.tsv
    generate_glue_csv   columns   --data_dir           csv                  csv/train.csv
    generate_conll      tagged    --train_file              new.txt              new.txt
    generate_chinesener tagged    --data_dir                chinesener           chinesener/example.train
    generate_pretrain   text      --input_file              new.txt              new.txt
    build_vocab         text      --input_file              new.txt              new.txt
    quick_start         text      --text                    new.txt              new.txt
    predict             vocab     --vocab_file_path         vocab.txt            vocab.txt
    run_squad           vocab     --vocab_file_path         vocab.txt            vocab.txt
    generate_pretrain   vocab     --vocab_file              vocab.txt            vocab.txt
    generate_glue       vocab     --vocab_file              vocab.txt            vocab.txt
    generate_cluener    vocab     --vocab_file              vocab.txt            vocab.txt
    generate_squad      vocab     --vocab_file              vocab.txt            vocab.txt
    run_classifier      records   --train_data_file_path    new.mindrecord       new.mindrecord
    run_classifier      records   --eval_data_file_path     new.mindrecord       new.mindrecord
    run_ner             records   --train_data_file_path    new.mindrecord       new.mindrecord
    run_pretrain        records   --data_dir                pretrain             pretrain/toy.mindrecord
    pretrain_eval       records   --eval_data_dir           pretrain             pretrain/toy.mindrecord
    preprocess          records   --eval_data_file_path     new.mindrecord       new.mindrecord
    vis_records         records   --file_name               new.mindrecord       new.mindrecord
    parallel_tfrecord   tfrecords --input_tfrecord_dir      new.tf_record        new.tf_record
    predict             weights   --load_finetune_checkpoint_path  new.ckpt      new.ckpt
    export              weights   --export_ckpt_file        new.ckpt             new.ckpt
    pretrain_eval       weights   --eval_ckpt               new.ckpt             new.ckpt
    run_pretrain        weights   --load_checkpoint_path    new.ckpt             new.ckpt
    run_classifier      weights   --load_pretrain_checkpoint_path  new.ckpt      new.ckpt
    run_eval_onnx       model     --export_file_name        new.onnx             new.onnx
    convert_checkpoint  tensors   --input_path              hf                   hf/model.safetensors
"""

_UNREADABLE = [("missing", MISSING, "[Nn]o such file|there is no|nothing to convert"),
               ("a folder", FOLDER, "irectory|nothing to convert")]
_NOT_UTF8 = [("bytes of latin-1", b"a\ncaf\xe9\n", "line 2.*0xe9 is not UTF-8"),
             ("UTF-16", "a\nb\n".encode("utf-16"), "line 1.*0xff is not UTF-8")]
# what is wrong, the contents, what the line must name (a regular expression); besides it always names the file
BAD = {
    "yaml": [
        ("missing", MISSING, "no such file"),
        *_NOT_UTF8,
        ("an alias bomb", BOMB, "line 5.*more than 20000 values"),
        ("an alias inside of what it stands for", "a: &a [1, *a]", "line 1.*stands for what it is in"),
        ("an unknown alias", "a: *b", "line 1.*undefined alias"),
        ("nesting", "a: " + "[" * 100_000, "nested more than 50 deep"),
        ("a number of 5,000 digits", f"seed: {DIGITS}", "line 1.*no value"),
        ("a hexadecimal number of 5,000 digits", f"seed: 0x{DIGITS}", "seed"),
        ("no such day", "seed: 2026-13-45", "line 1.*2026-13-45"),
        ("a day", "seed: 2026-01-01", "seed"),
        ("a bool that is none", "seed: !!bool maybe", "line 1.*maybe"),
        ("an object of Python", "seed: !!python/object/apply:os.getcwd []", "line 1.*could not determine"),
        ("a zero byte", b"seed: 1\nx: \0", "line 2.*cannot stand in YAML"),
        ("a zero byte in a path", 'seed: 1\ndevice_target: "a\\0b"', "device_target.*control character"),
        ("a line end in a path", 'device_target: "a\\nb"', "device_target.*control character"),
        ("a name of 300 bytes", f"device_target: {LONG_NAME}", "device_target.*too long"),
        ("a key twice", "seed: 1\nseed: 2", "line 2.*duplicate key 'seed'"),
        ("an unknown key", "sead: 1", "unknown key 'sead'"),
        ("a key that is a list", "? [a]\n: 1", "line 1.*unhashable"),
        ("no mapping", "- seed", "document 1"),
        ("an open bracket", "seed: [1", "line 1"),
        ("a tab", "\tseed: 1", "line 1"),
        ("text in place of a number", "seed: many", 'seed.*found "many"'),
        ("an infinite number", "log_steps: .inf", "log_steps"),
        ("more than a megabyte", "#" * (1 << 20) + "\n", "more than 1 MB"),
        ("a very long text", f"seed: {'x' * 500_000}", "seed"),
    ],
    "ini": [
        ("missing", MISSING, "no such file|no file or directory"),
        *_NOT_UTF8,
        ("no section", "seed = 1", "section"),
        ("another section", "[other]\nseed = 1", "one section"),
        ("a key twice", "[config]\nseed = 1\nseed = 2", "seed"),
        ("an unknown key", "[config]\nsead = 1", "sead"),
        ("no sign of equality", "[config]\nseed", "seed"),
        ("a number of 5,000 digits", f"[config]\nseed = {DIGITS}", "seed"),
        ("several lines", "[config]\ndevice_target = a\n  b", "device_target.*control character"),
        ("a zero byte", b"[config]\ndevice_target = a\0b", "device_target.*control character"),
        ("a name of 300 bytes", f"[config]\ndevice_target = {LONG_NAME}", "device_target.*too long"),
    ],
    "json": [
        ("missing", MISSING, ""),
        ("a folder", FOLDER, ""),
        *_NOT_UTF8,
        ("nothing", "", "no JSON|empty|no entity type"),
        ("cut off", '{"a": 1', "no JSON"),
        ("nesting", DEEP, "nested more than 100 deep"),
        ("nesting that Python reads", DEEP[:206] + "]" * 200 + "}", "nested more than 100 deep"),
        ("a number of 5,000 digits", f'{{"a": {DIGITS}}}', "number of thousands of digits"),
        ("a number beyond 64 bits", f'{{"a": {DIGITS[:30]}}}', "beyond 64 bits|is no whole number|are not O = 0"),
        ("half of a surrogate pair", '{"a": "\\ud800"}', "ud800"),
        ("a key twice", '{"a": 1, "a": 2}', 'key "a" occurs twice'),
        ("no object", '["a"]', "no JSON object|expected an object|no entity type|the types of"),
    ],
    "table": [
        (what, json.dumps(RANK_TABLE | change), named) for what, change, named in (
            ("no servers", {"server_list": []}, "server_list: expected a list"),
            ("servers that are numbers", {"server_list": [1]}, "server_list: expected a list"),
            ("not complete", {"status": "initializing"}, "status"),
            ("a status of 100,000 characters", {"status": "s" * 100_000}, "status"),
            ("a line end in a name", {"server_list": [{"server_id": "a\nrm -rf /", "device": []}]}, "server_id"),
            ("a command in a name", {"server_list": [{"server_id": "$(id)", "device": []}]}, "server_id"),
            ("a list for a name", {"server_list": [{"server_id": ["a"], "device": []}]}, "server_id"),
            ("no devices", {"server_list": [{"server_id": "a", "device": []}]}, "device"),
            ("a rank of 5,000 digits", {"server_list": [{"server_id": "a", "device": [
                {"device_id": "0", "rank_id": DIGITS}]}]}, "rank_id"),
            ("a rank below 0", {"server_list": [{"server_id": "a", "device": [
                {"device_id": "0", "rank_id": -1}]}]}, "rank_id"),
            ("a rank that is a fraction", {"server_list": [{"server_id": "a", "device": [
                {"device_id": "0", "rank_id": 0.5}]}]}, "rank_id"),
            ("a rank in a list", {"server_list": [{"server_id": "a", "device": [
                {"device_id": [0], "rank_id": 0}]}]}, "device_id"),
            ("another count", {"server_count": "2"}, "server_count"),
            ("a count that is an object", {"server_count": {}}, "server_count"),
            ("a line end in an address", {"server_list": [{"server_id": "a", "device": [
                {"device_id": 0, "rank_id": 0, "device_ip": "1\n2"}]}]}, "device_ip"),
        )],
    "squad": [
        (what, json.dumps(content), named) for what, content, named in (
            ("no data", {}, "data is missing"),
            ("data that is a text", {"data": "x"}, 'data is "x", expected a list'),
            ("an article that is a number", {"data": [1]}, r"data\[0\] is 1"),
            ("no context", {"data": [{"paragraphs": [{"qas": []}]}]}, r"paragraphs\[0\].context is missing"),
            ("a context that is a list", {"data": [{"paragraphs": [{"context": ["x"], "qas": []}]}]}, "context is"),
            ("no question", {"data": []}, "no question"),
            ("an id that is a number", {"data": [{"paragraphs": [{"context": "x", "qas": [
                {"id": 1, "question": "?", "answers": [{"text": "x", "answer_start": 0}]}]}]}]}, r"qas\[0\].id is 1"),
            ("a start that is a text", {"data": [{"paragraphs": [{"context": "x", "qas": [
                {"id": "1", "question": "?", "answers": [{"text": "x", "answer_start": "0"}]}]}]}]}, "answer_start"),
        )],
    "about": [
        (f"{key} {value!r}"[:40], json.dumps(DESCRIPTION | {key: value}), named) for key, value, named in (
            ("task", None, "task is null"),
            ("task", ["run_ner"], "task is"),
            ("task", "run_ner", "is of run_ner"),
            ("input_shape", 3, "input_shape is 3"),
            ("input_shape", [1], "input_shape is"),
            ("input_shape", ["a", 16], r"input_shape\[0\]"),
            ("input_shape", [None, -1], "input_shape"),
            ("outputs", "logits", "outputs"),
            ("inputs", [1], r"inputs\[0\]"),
            ("num_class", "three", "num_class"),
            ("num_class", 2, "num_class|classes|cannot read"),
            ("labels", [1, 2, 3], r"labels\[0\]"),
            ("labels", "abc", "labels"),
            ("further_files", 3, "further_files is 3"),
            ("further_files", {"a": 1}, r"further_files\.a is 1"),
            ("further_files", {"a\0": "1"}, "control character"),
            ("batch_sizes", "1,4", "batch_sizes"),
            ("batch_sizes", [], r"batch_sizes is \[\]"),
        )],
    "config": [
        (what, (what, change), named) for what, change, named in (
            ("model_type", ["bert"], "model_type"),
            ("model_type", "roberta", "model_type"),
            ("hidden_act", ["gelu"], "hidden_act"),
            ("hidden_act", {"a": 1}, "hidden_act"),
            ("hidden_act", "x", "hidden_act"),
            ("architectures", "Bert", "architectures"),
            ("architectures", {"a": 1}, "architectures"),
            ("id2label", ["a"], "id2label"),
            ("id2label", {"0": ["a"]}, "id2label"),
            ("vocab_size", "many", "vocab_size"),
            ("vocab_size", [1], "vocab_size"),
            ("vocab_size", None, "vocab_size"),
            ("vocab_size", 0, "vocab_size"),
            ("num_hidden_layers", 10 ** 9, "num_hidden_layers"),
            ("num_hidden_layers", True, "num_hidden_layers"),
            ("hidden_size", 10 ** 15, "hf"),
            ("hidden_dropout_prob", "0.1", "hidden_dropout_prob"),
            ("hidden_dropout_prob", 2, "hidden_dropout_prob"),
            ("is_decoder", [1], "is_decoder"),
            ("position_embedding_type", {}, "position_embedding_type"),
            ("initializer_range", [], "initializer_range"),
        )],
    "index": [
        (what, json.dumps(content), named) for what, content, named in (
            ("nothing", {}, "weight_map is missing"),
            ("a list", {"weight_map": ["a"]}, "weight_map is"),
            ("a number for a file", {"weight_map": {"a": 1}}, "weight_map.a is 1"),
            ("a list for a file", {"weight_map": {"a": ["x"]}}, "weight_map.a is"),
            ("a file elsewhere", {"weight_map": {"a": "../x.safetensors"}}, "beside it"),
            ("a zero byte", {"weight_map": {"a": "x\0"}}, "control character"),
            ("a name of 300 bytes", {"weight_map": {"a": LONG_NAME}}, "too long"),
            ("a file that is missing", {"weight_map": {"a": "x.safetensors"}}, "x.safetensors"),
        )],
    "types": [
        *_UNREADABLE,
        *_NOT_UTF8,
        ("nothing", "", "no entity type"),
        ("a type twice", "a\nb\na\n", "line 3"),
        ("a space in a type", "a\nb c\n", "line 2"),
        ("a line without a type", "a\n\nb\n", "line 2"),
        ("a zero byte", b"a\0b\nc d\n", "line"),
        ("ids that are texts", '{"O": "0", "S_a": "1"}', "whole number"),
        ("ids in another order", '{"O": 0, "B_a": 1, "S_a": 2}', "ids of"),
        ("more than a megabyte", "a" * (1 << 21), "MB"),
    ],
    "labels": [
        *_UNREADABLE,
        *_NOT_UTF8,
        ("nothing", "", "empty"),
        ("a label twice", "a\nb\na\n", "occurs twice"),
        ("an empty line", "a\n\nb\n", "line 2"),
        ("a single label", "a\n", "at least two"),
    ],
    "items": [
        *_UNREADABLE,
        ("UTF-16", "a\n".encode("utf-16"), "line 1"),
        ("no JSON", '{"text": ', "line 1.*no JSON"),
        ("half of a surrogate pair", '{"text": "\\ud800"}', "line 1.*ud800"),
        ("nesting", DEEP, "line 1.*nested"),
        ("a number of 5,000 digits", f'{{"text": {DIGITS}}}', "line 1.*digits"),
        ("a key twice", '{"text": "a", "text": "b"}', "line 1.*twice"),
        ("no text", '{"txt": "a"}', 'line 1.*"text"'),
        ("a list for a text", '{"text": ["a"]}', 'line 1.*"text"'),
        ("too many tabs", "a\tb\tc", "line 1.*3 fields"),
        ("a very long line", '{"txt": "' + "x" * 100_000 + '"}', "line 1"),
    ],
    "lines": [
        ("missing", MISSING, "train"),
        ("bytes of latin-1", b'{"text": "\xe9"}', "line 1.*0xe9 is not UTF-8"),
        ("no JSON", '{"text": ', "line 1.*no JSON"),
        ("an array", '["a"]', "line 1"),
        ("nesting", DEEP, "line 1.*nested"),
        ("half of a surrogate pair", '{"text": "w5", "sentence": "w5", "label": "\\ud800"}', "line 1.*ud800"),
        ("the other half", '{"text": "w5", "sentence": "w5", "label": "\\uDC00x"}', "line 1.*udc00"),
        ("a number of 5,000 digits", f'{{"text": "w5", "label": {DIGITS}}}', "line 1.*digits"),
        ("a key twice", '{"text": "a", "text": "b"}', "line 1.*twice"),
        ("no fields", "{}", "line 1"),
        ("a number for a text", '{"text": 5, "sentence": 5, "label": "a"}', "line 1"),
    ],
    "cluener": [
        (what, json.dumps(content), named) for what, content, named in (
            ("a type with a line end", {"text": "w5", "label": {"na\nme": {"w5": [[0, 1]]}}}, "line 1"),
            ("an unknown type", {"text": "w5", "label": {"nam": {"w5": [[0, 1]]}}}, "line 1"),
            ("another place", {"text": "w5", "label": {"name": {"w5": [[1, 2]]}}}, "line 1.*not 'w5'"),
            ("a place that is a text", {"text": "w5", "label": {"name": {"w5": [["0", "1"]]}}}, "line 1"),
            ("a place of three", {"text": "w5", "label": {"name": {"w5": [[0, 1, 2]]}}}, "line 1"),
            ("a list of labels", {"text": "w5", "label": ["name"]}, "line 1"),
        )],
    "columns": [
        ("missing", MISSING, "train"),
        ("bytes of latin-1", b"text\tlabel\n\xe9", "line 2.*0xe9"),
        ("other columns", "a,b\nw5,b\n", "line 2"),
        ("no rows", "", "train"),
        ("a column twice", "text,text\na,b\n", "line"),
        ("too few fields", "text,label\na\n", "line 2"),
    ],
    "tagged": [
        *_UNREADABLE,
        *_NOT_UTF8[1:],
        ("no tag", "w5\n", "line 1"),
        ("no such tag", "w5 B-PER\nw6 X-PER\n", "line 2"),
        ("nothing", "", "no sentence|no record"),
        ("no entity", "w5 O\n", "no sentence has an entity"),
    ],
    "text": [
        *_UNREADABLE[:1],
        *_NOT_UTF8,
        ("nothing", "", "new.txt|no instance|words"),
        ("blank lines", "\n\n\n", "text|document"),
    ],
    "vocab": [
        *_UNREADABLE,
        *_NOT_UTF8,
        ("nothing", "", "empty"),
        ("no special tokens", "a\nb\n", r"\[PAD\]"),
        ("a token twice", "a\nb\na\n", "line 3.*line 1"),
        ("a blank line", "a\n\nb\n", "line 2"),
    ],
    "records": [
        ("missing", MISSING, ""),
        ("nothing", "", "MindRecord|no record|empty"),
        ("text", "hello\n" * 100, "MindRecord|format"),
        ("a header of nonsense", b"\x10\0\0\0\0\0\0\0" + b"x" * 100, "MindRecord"),
        ("a length beyond the file", b"\xff" * 100, "MindRecord"),
        ("a pipe", PIPE, "pipe|there is no|no such"),
        ("a header nested deeply", b"\x90\x01\0\0\0\0\0\0" + b"[" * 500, "MindRecord"),
    ],
    "tfrecords": [
        ("missing", MISSING, "there is no"),
        ("nothing", "", "empty"),
        ("text", "hello\n" * 100, "not a TFRecord"),
        ("a pipe", PIPE, "there is no"),
        ("a length beyond the file", b"\xff" * 100, "not a TFRecord"),
    ],
    "weights": [
        ("missing", MISSING, "there is no"),
        ("nothing", "", "empty"),
        ("text", "hello\n" * 100, "damaged"),
        ("nonsense", bytes(range(256)) * 8, "damaged"),
        ("a pickle", b"\x80\x04cos\nsystem\n.", "damaged"),
        ("a folder", FOLDER, "checkpoint"),
    ],
    "model": [
        ("missing", MISSING, "no ONNX model"),
        ("nothing", "", "damaged|not an ONNX"),
        ("text", "hello\n", "damaged"),
    ],
    "tensors": [
        ("nothing", "", "damaged"),
        ("text", "hello\n" * 100, "damaged"),
        ("a header beyond the file", b"\xff" * 8 + b"{}", "damaged"),
        ("no header", b"\x02\0\0\0\0\0\0\0{}", "parameters"),
        ("a folder", FOLDER, "model.safetensors"),
    ],
}

# command, options, what the line must name
OPTIONS = [
    ("run_pretrain", "--AdamWeightDecay.learning_rate inf", "AdamWeightDecay.learning_rate: expected a finite number"),
    ("run_pretrain", "--AdamWeightDecay.learning_rate 1e999", "AdamWeightDecay.learning_rate"),
    ("run_pretrain", "--AdamWeightDecay.learning_rate nan", "AdamWeightDecay.learning_rate"),
    ("run_classifier", "--optimizer_cfg.AdamWeightDecay.learning_rate inf", "learning_rate: expected a finite number"),
    ("run_ner", "--optimizer_cfg.AdamWeightDecay.learning_rate inf", "learning_rate: expected a finite number"),
    ("run_squad", "--optimizer_cfg.AdamWeightDecay.learning_rate inf", "learning_rate: expected a finite number"),
    ("run_pretrain", f"--seed {DIGITS}", "--seed: expected a whole number"),
    ("run_pretrain", f"--data_dir {LONG_NAME}", "--data_dir.*too long"),
    ("run_pretrain", f"--save_checkpoint_path /tmp/{LONG_NAME}", "--save_checkpoint_path.*too long"),
    ("run_pretrain", f"--config_path {LONG_NAME}.yaml", "--config_path.*too long"),
    ("run_pretrain", f"--ini_path {LONG_NAME}.ini", "--ini_path.*too long"),
    ("run_pretrain", "--batch_size", "--batch_size needs a value"),
    ("run_pretrain", "batch_size", "unexpected 'batch_size'"),
    ("run_pretrain", f"--{'x' * 100_000} 1", "unknown option"),
    ("run_pretrain", f"--device_target {'/'.join(['x'] * 3000)}", "device_target.*too long"),
    ("run_classifier", f"--train_data_file_path {LONG_NAME}", "--train_data_file_path.*too long"),
    ("run_ner", f"--label_file_path {LONG_NAME}", "--label_file_path.*too long"),
    ("run_squad", f"--vocab_file_path {LONG_NAME}", "--vocab_file_path.*too long"),
    ("predict", f"--input_file {LONG_NAME}", "--input_file.*too long"),
    ("predict", f"--model {LONG_NAME}.mindir", "too long"),
    ("predict", "--text \udcff", "--text.*not UTF-8"),
    ("export", f"--export_file_name {LONG_NAME}", "--export_file_name.*too long"),
    ("preprocess", f"--model_path {LONG_NAME}.mindir", "too long"),
    ("postprocess", f"--preprocess_path {LONG_NAME}", "too long"),
    ("convert_checkpoint", f"--input_path {LONG_NAME}", "too long"),
    ("convert_checkpoint", f"--vocab_file_path {LONG_NAME}", "too long"),
    ("generate_pretrain", f"--vocab_file {LONG_NAME}", "too long"),
    ("generate_pretrain", f"--input_file {LONG_NAME}", "too long"),
    ("generate_glue", f"--data_dir {LONG_NAME}", "too long"),
    ("generate_cluener", f"--label_file {LONG_NAME}", "too long"),
    ("generate_conll", f"--train_file {LONG_NAME}", "too long"),
    ("generate_squad", f"--train_file {LONG_NAME}", "too long"),
    ("build_vocab", f"--input_file {LONG_NAME}", "too long"),
    ("vis_records", f"--file_name {LONG_NAME}", "too long"),
    ("parallel_tfrecord", f"--input_tfrecord_dir {LONG_NAME}", "too long"),
    ("rank_table", f"--hccl_config {LONG_NAME}", "--hccl_config.*too long"),
    ("rank_table", f"--hccn_config_file {LONG_NAME}", "--hccn_config_file.*too long"),
    ("start_ranks", "--master_port 99999", "--master_port 99999 .MASTER_PORT."),
    ("start_ranks", "--master_port 65535", "--master_port 65535 .MASTER_PORT."),
    ("start_ranks", "--master_port -1", "--master_port -1 .MASTER_PORT."),
]


class Row(NamedTuple):
    """What a command is given, and what its line must name."""

    command: str
    what: str
    option: str  # or the name of an environment variable
    value: str
    file: str
    content: object
    named: str


def rows() -> Iterator[Row]:
    for line in READS.strip().splitlines():
        command, kind, option, value, file = line.split()
        for what, content, named in BAD[kind]:
            yield Row(command, what, option, value, file, content, named)


ROWS = list(rows())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def spoil(inputs: Path, folder: Path, row: Row) -> None:
    """Put the bad file into `folder`, beside the sound ones of its folder."""
    path = folder / row.file
    if path.parent != folder:
        shutil.copytree(inputs / path.parent.name, path.parent)
        if path.name.endswith("index.json"):
            (path.parent / "model.safetensors").unlink()
    path.unlink(missing_ok=True)
    if row.content == FOLDER:
        path.mkdir()
    elif row.content == PIPE:
        os.mkfifo(path)
    elif isinstance(row.content, tuple):  # a key of a sound JSON file and its new value
        key, value = row.content
        sound = json.loads((inputs / row.file).read_text(encoding="utf-8"))
        path.write_text(json.dumps(sound | {key: value}), encoding="utf-8")
    elif row.content != MISSING:
        path.write_bytes(row.content.encode() if isinstance(row.content, str) else row.content)


def line_of(command: str, argv: list[str], capsys: pytest.CaptureFixture) -> str:
    """What a command that must fail writes to standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_script(lambda: MAINS[command](argv))
    written = capsys.readouterr().err
    line = next(line for line in written.splitlines() if line.startswith("error: "))
    assert end.value.code == 2 and written.count("error: ") == 1 and written.endswith(f"{line}\n")
    assert len(line) <= 2020
    return line


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.command} {row.option} {row.what}")
def test_a_bad_file_is_named_in_one_line(inputs, tmp_path, monkeypatch, capsys, row):
    bad = tmp_path / "bad"
    bad.mkdir()
    spoil(inputs, bad, row)
    sound = commands(inputs)[row.command]
    sound = [word.replace(str(inputs / "out"), str(tmp_path / "out")) for word in sound]
    if row.option.startswith("--"):
        argv = with_option(sound, row.option, str(bad / row.value))
    else:
        monkeypatch.setenv(row.option, str(bad / row.value))
        monkeypatch.setenv("RANK_ID", "0")
        argv = with_option(with_option(sound, "--distribute", "true"), "--device_target", "Ascend")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    line = line_of(row.command, argv, capsys)
    assert re.search(row.named, line), line
    assert Path(row.file).stem in line or row.option.strip("-") in line or str(bad) in line, line
    assert left_in(tmp_path / "here") == []
    # A training begins its journal before it opens the data to evaluate on.
    assert set(left_in(tmp_path / "out")) <= {"metrics.jsonl"}


@pytest.mark.parametrize(("command", "options", "named"), OPTIONS, ids=lambda value: str(value)[:40])
def test_a_bad_option_is_named_in_one_line(inputs, tmp_path, monkeypatch, capsys, command, options, named):
    monkeypatch.chdir(tmp_path)
    argv = commands(inputs)[command]
    option, *value = options.split(" ", 1)
    line = line_of(command, with_option(argv, option, *value), capsys)
    assert re.search(named, line), line
    assert left_in(tmp_path) == []


def with_option(argv: list[str], option: str, *value: str) -> list[str]:
    """A command line with another value of an option; what stands behind -- stays behind."""
    if option in argv:
        place = argv.index(option)
        argv = argv[:place] + argv[place + 2:]
    end = argv.index("--") if "--" in argv else len(argv)
    return [*argv[:end], option, *value, *argv[end:]]


def test_the_table_is_long_enough():
    assert len(ROWS) + len(OPTIONS) >= 300
    assert {row.command for row in ROWS} | {command for command, *_ in OPTIONS} == set(MAINS)
