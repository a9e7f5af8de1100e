"""Directories of Hugging Face transformers: `model.safetensors`, `config.json`, `vocab.txt`."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from src.errors import UserError, shown
from src.exchange.activations import activation_for, activation_from
from src.exchange.model import (
    SINUSOIDAL_CLIP,
    SIZES,
    Model,
    Report,
    check_depth,
    check_exportable,
    complete,
    give_weights,
    read_sizes,
    take_weights,
    unused_parameters,
)
from src.exchange.names import ENCODER, head_modules, heads, num_classes_in, parameter_names, tasks_with_head_in
from src.files import open_to_others
from src.json_files import check_kind, json_shown, member, read_json_object
from src.text_files import check_path, open_input

WEIGHTS, INDEX, PICKLE, CONFIG = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "config.json"
ORIGIN = "a directory that save_pretrained of transformers wrote"
EPSILON = 1e-12  # of the layer norms here

CLASS_NAMES = "class_names"  # key of config.json: the classes as this repository calls them, where they differ

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
           "I8": "<i1", "U8": "<u1", "BOOL": "|b1"}
_BUFFERS = (".position_ids", ".token_type_ids", ".positions_encoding")
_BASES = {"bert": "Bert", "nezha": "Nezha"}
_DECODER_WEIGHT, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
# Keys of config.json that say the same as our file, or as the weights themselves, or how the file was written.
_USED_KEYS = {*SIZES, "hidden_act", "layer_norm_eps", "model_type", "architectures", "id2label", "label2id",
              "num_labels", "max_relative_position", "use_relative_position", "position_embedding_type", "torch_dtype",
              "dtype", "transformers_version", "tie_word_embeddings", "is_decoder", "add_cross_attention",
              "_name_or_path", "problem_type", "classifier_dropout", CLASS_NAMES}


# ---------------------------------------------------------------- reading

def read(directory: Path, task: str | None, report: Report) -> Model:
    """Read a model that `save_pretrained` wrote.

    Args:
        directory: where it lies.
        task: which head to take; None to see from the file.
        report: receives what was left out.

    Raises:
        UserError: something is missing, damaged, or cannot be expressed here.
    """
    config = read_json_object(directory / CONFIG, ORIGIN)
    base = _check_network(config, directory / CONFIG)
    sizes = _sizes(config, base, directory / CONFIG, report)
    values = _standard_names(_read_tensors(directory, report), base, directory)
    task = task or _task(values, config, directory)
    _leave_out_copies(values, config, directory, task, report)
    num_labels = num_classes_in(values, "huggingface")
    model = Model(task, sizes, {}, num_labels, _labels(config, num_labels, directory / CONFIG),
                  _vocabulary(directory, report),
                  _lower_case(directory, report))
    check_depth(sizes, values, directory)
    names = parameter_names(sizes, task, num_labels, base)
    model.weights = take_weights(values, names, "huggingface", sizes, directory, report)
    report.add("left out: computed, not learnt", [name for name in values if name.endswith(_BUFFERS)])
    report.add(f"left out: no counterpart in the network for {task}",
               [name for name in values if not name.endswith(_BUFFERS)])
    complete(model, names, directory, report)
    return model


def _check_network(config: Mapping, source: Path) -> str:
    """What the encoder is called, "bert" or "nezha"."""
    base = config.get("model_type")
    if not isinstance(base, str) or base not in _BASES:
        raise UserError(f"{source}: model_type {json_shown(base)}, expected one of {', '.join(_BASES)}; other "
                        f"networks compute something else")
    for key, expected in (("is_decoder", False), ("add_cross_attention", False),
                          ("position_embedding_type", "absolute")):
        if config.get(key, expected) != expected:
            raise UserError(f"{source}: {key} {json_shown(config[key])} has no counterpart here; expected "
                            f"{json_shown(expected)}")
    clip = config.get("max_relative_position", SINUSOIDAL_CLIP)
    if base == "nezha" and clip != SINUSOIDAL_CLIP:
        raise UserError(f"{source}: max_relative_position {shown(clip)}, but the sinusoids here are clipped at "
                        f"{SINUSOIDAL_CLIP}; such a network cannot be converted")
    return base


def _sizes(config: dict[str, Any], base: str, source: Path, report: Report) -> dict[str, Any]:
    epsilon = config.get("layer_norm_eps", EPSILON)
    if epsilon != EPSILON:
        report.note(f"layer_norm_eps is {json_shown(epsilon)} there and {EPSILON} here: outputs differ a little")
    dropout = config.get("classifier_dropout")
    if dropout is not None and dropout != config.get("hidden_dropout_prob", 0.1):
        report.note(f"classifier_dropout {json_shown(dropout)} is not taken over: before the head "
                    f"hidden_dropout_prob holds")
    if config.get("problem_type") == "multi_label_classification":
        report.note("problem_type multi_label_classification: here the classes exclude each other; logits are equal")
    report.add(f"keys of {CONFIG} without a counterpart", sorted(set(config) - _USED_KEYS))
    hidden_act = activation_from("huggingface", member(config, "hidden_act", str, f"{source}: ", "gelu"), source)
    return read_sizes(config, hidden_act, base == "nezha", source)


def _task(values: Mapping[str, np.ndarray], config: dict[str, Any], source: Path) -> str:
    """The task whose head is there; of tasks with the same head the one that the architecture names."""
    found = tasks_with_head_in(values, "huggingface")
    if len(found) < 2:
        return found[0].name if found else ENCODER
    architectures = member(config, "architectures", list, f"{source / CONFIG}: ", []) if config.get("architectures") \
        else []
    architecture = str(architectures[0]) if architectures else ""
    for task in found:
        if architecture.endswith(task.exchange_head.transformers_class):
            return task.name
    raise UserError(f"{source}: architectures {shown(architecture)} in {CONFIG} do not say what the classifier is for; "
                    f"give {' or '.join(f'--task {task.name}' for task in found)}")


def _standard_names(values: Mapping[str, np.ndarray], base: str, source: Path) -> dict[str, np.ndarray]:
    """Bring the names of old versions and of bare encoders into today's form."""
    words = "embeddings.word_embeddings.weight"
    bare = words in values
    if not bare and f"{base}.{words}" not in values:
        raise UserError(f"{source}: no {base}.{words} among its parameters ({', '.join(list(values)[:3])}, …); "
                        f"expected a {base} of transformers")
    standard = {}
    for name, value in values.items():
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if bare and new.startswith(("embeddings.", "encoder.", "pooler.")):
            new = f"{base}.{new}"
        standard[new] = value
    return standard


def _leave_out_copies(values: dict[str, np.ndarray], config: Mapping, source: Path, task: str, report: Report) -> None:
    """Take the output layer's second names off: its weight is the word embedding, its bias has a name of its own."""
    tied = config.get("tie_word_embeddings", True)
    has_output_layer = any(module == "cls.predictions" for _, _, _, module, _ in head_modules(task))
    weight, bias = values.get(_DECODER_WEIGHT), values.get(_DECODER_BIAS)
    words = next(value for name, value in values.items() if name.endswith("embeddings.word_embeddings.weight"))
    if bias is not None and "cls.predictions.bias" not in values:
        values["cls.predictions.bias"] = bias
    for name, value, original in ((_DECODER_WEIGHT, weight, words),
                                  (_DECODER_BIAS, bias, values.get("cls.predictions.bias"))):
        if value is None or original is None:
            continue
        if not np.array_equal(value, original) and not tied and has_output_layer:
            raise UserError(f"{source}: tie_word_embeddings is false and {name} differs from the parameter that the "
                            f"network here shares; --task encoder converts it without its heads")
        report.add("left out: a copy of a shared parameter", name)
        del values[name]


def _labels(config: dict[str, Any], num_labels: int, source: Path) -> list[str] | None:
    """Names of the classes, unless they are only numbered; of a model of ours the names that it had here."""
    if config.get(CLASS_NAMES) is not None:
        names = member(config, CLASS_NAMES, list, f"{source}: ")
        for number, name in enumerate(names):
            check_kind(name, str, f"{source}: {CLASS_NAMES}[{number}]")
        if len(names) == num_labels:
            return names
    if config.get("id2label") is None:
        return None
    by_id = member(config, "id2label", dict, f"{source}: ")
    for number, name in by_id.items():
        check_kind(name, str, f"{source}: id2label.{number}")
    numbers = [str(number) for number in range(num_labels)]
    names = [by_id[number] for number in numbers if number in by_id]
    if len(names) < num_labels or names == [f"LABEL_{number}" for number in numbers]:
        return None
    return names


def _vocabulary(directory: Path, report: Report) -> Path | None:
    path = directory / "vocab.txt"
    if path.is_file():
        return path
    report.note(f"no vocab.txt in {directory}; tokenizing needs it")
    return None


def _lower_case(directory: Path, report: Report) -> bool | None:
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return None
    tokenizer = read_json_object(path, ORIGIN)
    lower = tokenizer.get("do_lower_case")
    if lower is not None:
        check_kind(lower, bool, f"{path}: do_lower_case")
    if tokenizer.get("strip_accents") not in (None, lower):
        report.note(f"strip_accents {json_shown(tokenizer['strip_accents'])} is not taken over: here accents go "
                    f"with do_lower_case")
    if tokenizer.get("tokenize_chinese_chars") is False:
        report.note("tokenize_chinese_chars false is not taken over: here every Chinese character is a word")
    return lower


# ---------------------------------------------------------------- tensors

def _read_tensors(directory: Path, report: Report) -> dict[str, np.ndarray]:
    if (directory / WEIGHTS).is_file():
        return read_safetensors(directory / WEIGHTS)
    if (directory / INDEX).is_file():
        return {name: value for file in _indexed_files(directory / INDEX)
                for name, value in read_safetensors(directory / file).items()}
    if (directory / PICKLE).is_file():
        return _read_pickle(directory / PICKLE, report)
    raise UserError(f"{directory}: no {WEIGHTS}; expected a directory that save_pretrained of transformers wrote")


def _indexed_files(index: Path) -> list[str]:
    """The files that hold the parts of a model, which lie beside the index."""
    names = member(read_json_object(index, ORIGIN), "weight_map", dict, f"{index}: ")
    for parameter, name in names.items():
        check_kind(name, str, f"{index}: weight_map.{parameter}")
        if Path(check_path(name, str(index))).name != name:
            raise UserError(f"{index}: weight_map.{parameter} is {shown(name)}, expected the name of a file beside it")
    return sorted(set(names.values()))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file; bfloat16, which numpy lacks, becomes float32, which holds it exactly.

    Raises:
        UserError: the file is missing or damaged, or holds a type that is unknown here.
    """
    with open_input(path) as file:
        content = file.read()
    try:
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise UserError(f"cannot read {path}: damaged, cut off, or no safetensors file; fetch it anew") from error
    values = {}
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        kind = tensor["dtype"]
        if kind not in _DTYPES:
            raise UserError(f"{path}: {name} is of type {kind}, which cannot be converted; save the model in float32")
        value = np.frombuffer(tensor["data"], _DTYPES[kind])
        if kind == "BF16":
            value = (value.astype(np.uint32) << 16).view(np.float32)
        values[name] = value.reshape(tensor["shape"])
    return values


def _read_pickle(path: Path, report: Report) -> dict[str, np.ndarray]:
    """Read a file of PyTorch by its loader that accepts nothing but tensors."""
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise UserError(f"{path.parent} has only {PICKLE}, which needs PyTorch's safe loader; pip install torch, or "
                        f"save the model as {WEIGHTS} with save_pretrained") from error
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise TypeError("no tensors by name")
        arrays = {name: (value.float() if value.is_floating_point() else value).numpy()
                  for name, value in values.items()}
    except Exception as error:  # damaged bytes lead the parser into errors of any kind, and so does what is no tensor
        raise UserError(f"cannot read {path}: damaged, or it holds more than tensors by name, which is not unpickled; "
                        f"save the model as {WEIGHTS} with save_pretrained") from error
    report.note(f"{PICKLE} was read by PyTorch with weights_only=True")
    return arrays


# ---------------------------------------------------------------- writing

def write(model: Model, directory: Path, report: Report) -> int:
    """Write what `from_pretrained` of transformers reads; return the number of parameters.

    Raises:
        UserError: the network has no counterpart there.
    """
    check_exportable(model, "transformers")
    base = "nezha" if model.sizes["use_relative_positions"] else "bert"
    model, class_names = _with_their_classes(model, report)
    config = _config(model, base, class_names)
    unused = unused_parameters(model)
    names = [name for name in parameter_names(model.sizes, model.task, model.num_labels, base)
             if name.ours not in unused]
    values = give_weights(model, names, "huggingface", report)
    if model.task == ENCODER:
        values = {name.removeprefix(base + "."): value for name, value in values.items()}
    _write_json(directory / CONFIG, config)
    try:
        save_file(values, directory / WEIGHTS, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error
    open_to_others([directory / WEIGHTS])
    if model.vocab_file:
        shutil.copyfile(model.vocab_file, directory / "vocab.txt")
        tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": model.sizes["max_position_embeddings"]}
        if model.do_lower_case is not None:
            tokenizer["do_lower_case"] = model.do_lower_case
        _write_json(directory / "tokenizer_config.json", tokenizer)
    else:
        report.note("without a vocabulary: give --vocab_file_path for a directory that tokenizes too")
    return len(values)


def _with_their_classes(model: Model, report: Report) -> tuple[Model, list[str]]:
    """The model without the classes that transformers has no use for, and what it calls the others."""
    task = heads()[model.task]
    if task is None or not model.has_classes:
        return model, []
    names, notes = task.exchanged_class_names(model.labels or [f"LABEL_{number}" for number in range(model.num_labels)])
    for note in notes:
        report.note(note)
    fewer = replace(model, num_labels=len(names), labels=model.labels and model.labels[:len(names)])
    shapes = {name.ours: name.shape for name in parameter_names(model.sizes, model.task, len(names))}
    fewer.weights = {name: value[:shapes[name][0]] if name in shapes else value
                     for name, value in model.weights.items()}
    return fewer, names


def _config(model: Model, base: str, class_names: list[str]) -> dict[str, Any]:
    task = heads()[model.task]
    architecture = _BASES[base] + (task.exchange_head.transformers_class if task else "Model")
    config = {"architectures": [architecture], "model_type": base,
              **{key: model.sizes[key] for key in SIZES},
              "hidden_act": activation_for("huggingface", model.sizes["hidden_act"]),
              "layer_norm_eps": EPSILON, "pad_token_id": 0, "torch_dtype": "float32"}
    if base == "nezha":
        config |= {"max_relative_position": SINUSOIDAL_CLIP, "use_relative_position": True,
                   "classifier_dropout": model.sizes["hidden_dropout_prob"]}
    else:
        config["position_embedding_type"] = "absolute"
    if model.has_classes:
        config["id2label"] = {str(number): name for number, name in enumerate(class_names)}
        config["label2id"] = {name: class_names.index(name) for name in class_names}  # of equal names the first
        if model.labels and model.labels != class_names:
            config[CLASS_NAMES] = model.labels
        if model.num_labels == 1:
            config["problem_type"] = "regression"
    return config


def _write_json(path: Path, content: Mapping) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


