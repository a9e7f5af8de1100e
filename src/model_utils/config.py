"""Configuration: the script's YAML file, what a model folder says of itself, the user's YAML file, an ini file, then
the command line, each overruling the one before.

A YAML file holds up to three documents: the values, a help text per key, and the allowed values per key (a list of
choices, or bounds such as ">= 0, < 1"). The second and third may name a key by its full name
(`base_net_cfg.hidden_size`) or by its last part alone (`hidden_size`), which then serves every group that has it.
A key with the choices "true" and "false" is a bool for the program.

The script's own YAML file defines which keys exist and of which type they are. A file given by `--config_path`,
the ini file and the command line change values only, so each needs to name only what differs.
"""

import configparser
import difflib
import math
import operator
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UserError, quoted, shown
from src.model_folder import DESCRIPTION, ModelFolder
from src.model_utils.old_keys import HINTS, our_value, translate_file
from src.model_utils.yaml_files import read_yaml
from src.text_files import check_path, read_text

LARGEST_INI = 1 << 20  # bytes
REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ENCODER_OPTION = "load_pretrain_checkpoint_path"  # of a model that it names only the encoder is taken

_OPTIONS_OF_THE_LOADER = {
    "config_path": "YAML file whose values replace those of the default file",
    "ini_path": "ini file with a [config] section of `key = value` lines; it overrules the YAML file",
}
_SWITCH = {"true", "false"}  # the allowed values of a key whose words become a bool


class Words(list):
    """The kind of a key whose value is a list of words."""


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text",
               list: "a list of whole numbers such as 32,64,128",
               Words: "a list of words such as layernorm,bias"}
_LONGEST_WORD = 100  # characters that are compared with what is known; time grows with their square
_BOUND = r"(>=|<=|>|<)\s*(-?[\d.]+)"
_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class MissingKeyError(UserError, AttributeError):
    """A script needs a key that its YAML file lacks; an AttributeError too, so that `getattr` and `copy` work."""


class Config(Mapping):
    """Read-only values by attribute (`config.Lamb.learning_rate`) or by key; groups are `Config` objects too."""

    def __init__(self, values: Mapping[str, Any], given: frozenset[str] = frozenset(),
                 explicit: frozenset[str] | None = None, of_model: frozenset[str] = frozenset()) -> None:
        fields = {key: Config(value) if isinstance(value, Mapping) else value for key, value in values.items()}
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(self, "_given", given)
        object.__setattr__(self, "_explicit", given if explicit is None else explicit)
        object.__setattr__(self, "_of_model", of_model)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return the value or group called `name`."""
        fields = self.__dict__.get("_fields", {})  # absent while copy or pickle rebuild the object
        if name in fields:
            return fields[name]
        raise MissingKeyError(f"the configuration has no key {name!r}; restore it in the script's YAML file")

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse."""
        raise AttributeError(f"the configuration is read-only: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        """Refuse."""
        raise AttributeError(f"the configuration is read-only: {name!r} cannot be deleted")

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        """Return the value or group called `name`."""
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Count the keys of this level."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Show all values."""
        return f"Config({self.to_dict()})"

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain dictionaries, fit for YAML or JSON."""
        return {key: value.to_dict() if isinstance(value, Config) else value for key, value in self._fields.items()}

    def replaced(self, values: Mapping[str, Any]) -> "Config":
        """Return a configuration with other values for some keys."""
        return Config(self._fields | values, self._given, self._explicit, self._of_model)

    def was_given(self, key: str) -> bool:
        """Tell whether `key` (dotted when it is in a group) was given on the command line or in the ini file."""
        return key in self._given

    def is_explicit(self, key: str) -> bool:
        """Tell whether the user said what `key` is: as `was_given`, or in the file of `--config_path`."""
        return key in self._explicit

    def is_of_model(self, key: str) -> bool:
        """Tell whether a model folder says what `key` is."""
        return key in self._of_model


class WeightsOption(NamedTuple):
    """How a script finds the model folder that its configuration is about.

    Attributes:
        choose: the option that names the weights which the script is going to use, given the rest of the configuration.
        open_model: the model folder that a path stands for, None where there is none.
        model: the model folder where it is known already.
    """

    choose: Callable[[Config], str]
    open_model: Callable[[str], ModelFolder | None] = ModelFolder.find
    model: ModelFolder | None = None

    def find(self, config: Config) -> tuple[str, ModelFolder | None]:
        """The option that names the weights, and their model folder."""
        option = self.choose(config)
        if self.model or not option or not config[option]:
            return option, self.model
        return option, self.open_model(config[option])


def load_config(description: str, default_yaml: str | Path, argv: Sequence[str] | None = None,
                weights: WeightsOption | None = None) -> Config:
    """Read a script's configuration.

    Args:
        description: what the script does, shown by `--help`.
        default_yaml: the script's YAML file, relative to the repository's root.
        argv: the command line without the program's name; None means that of the process.
        weights: which model folder counts; None for none.

    Raises:
        UserError: a file is missing or malformed, a key is unknown, a value has the wrong type or is not allowed, or
            the user says of a network what its weights contradict.
        SystemExit: after `--help`.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    schema = _Schema.from_file(REPOSITORY / default_yaml)
    if asks_for_help(argv):
        print(schema.help_text(description))
        raise SystemExit(0)
    options = split_command_line(argv)
    in_file, given = {}, {}
    config_path, ini_path = options.pop("config_path", None), options.pop("ini_path", None)
    path = ini = None
    if config_path is not None:
        path = _find_file("--config_path", config_path)
        flat = translate_file(_flatten(_read_yaml(path)[0], str(path)), schema.defaults, str(path))
        in_file = {key: schema.convert(key, value, str(path)) for key, value in _in_folder(flat, path).items()}
    if ini_path is not None:
        ini = _find_file("--ini_path", ini_path)
        given |= {key: schema.convert(key, value, str(ini)) for key, value in _read_ini(ini).items()}
    given |= {key: schema.convert(key, value, "the command line") for key, value in options.items()}
    explicit = in_file | given
    config = Config(_unflatten(schema.defaults | explicit), frozenset(given), frozenset(explicit))
    option, model = weights.find(config) if weights else ("", None)
    if model is None:
        return config

    def place(key: str) -> str:
        return "the command line" if key in options else str(ini if key in given else path)

    group = sizes_group(config)
    model.check_agreement(explicit, group, place)
    task = "" if option == ENCODER_OPTION else config.description
    of_model = model.values(task, group, schema.defaults)
    of_model = {key: schema.convert(key, value, str(model.source)) for key, value in of_model.items()}
    values = schema.defaults | of_model | explicit | ({option: str(model.weights)} if option else {})
    return Config(_unflatten(values), frozenset(given), frozenset(explicit), frozenset(of_model) - frozenset(explicit))


def sizes_group(config: Mapping[str, Any]) -> str:
    """The group that holds the sizes of the network: one where there is one network, or that of `bert_network`."""
    return f"{config['bert_network']}_net_cfg" if "bert_network" in config else "bert_net_cfg"


def _in_folder(flat: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The values of a YAML file, in which a mere name can mean a file beside it: a model folder may be moved."""
    if not (path.parent / DESCRIPTION).is_file():
        return dict(flat)
    return {key: _found_beside(key, value, path.parent) for key, value in flat.items()}


def _found_beside(key: str, value: object, folder: Path) -> object:
    if not key.endswith(("_path", "_file", "eval_ckpt")) or not isinstance(value, str) or not value:
        return value
    return str(folder / value) if Path(value).name == value and (folder / value).is_file() else value


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether a command line wants to know the options."""
    return "--help" in argv or "-h" in argv


def describe_command_line(argv: Sequence[str]) -> tuple[object, str]:
    """The value of the key `description` for a command line, before it is known whose configuration that is.

    Returns:
        The value of the option, or else of the file that `--config_path` names, None where there is neither; and that
        file, empty where it was not looked at.

    Raises:
        UserError: the command line or the file cannot be read.
    """
    options = split_command_line(argv)
    if "description" in options or "config_path" not in options:
        return options.get("description"), ""
    path = _find_file("--config_path", options["config_path"])
    return _read_yaml(path)[0].get("description"), str(path)


def select_network(config: Config) -> tuple[dict[str, Any], int]:
    """Return the keyword arguments of the chosen network's `BertConfig`, and the batch size to use.

    `bert_network` names the group `{bert_network}_net_cfg`. `batch_size` wins when it is positive; 0 leaves the choice
    to `{bert_network}_batch_size`.
    """
    name = config.bert_network
    return config[f"{name}_net_cfg"].to_dict(), config.batch_size or config[f"{name}_batch_size"]


class _Schema:
    """Which keys exist, with their defaults (and thereby types), help texts and allowed values. Keys are dotted."""

    def __init__(self, path: Path, documents: list[dict]) -> None:
        where = str(path)
        self.defaults = _flatten(documents[0], where)
        self.help = _by_key(documents[1], self.defaults, where)
        self.allowed = _by_key(documents[2], self.defaults, where)
        for key, allowed in self.allowed.items():
            if not isinstance(allowed, list) and not re.fullmatch(rf"{_BOUND}(,\s*{_BOUND})*", str(allowed)):
                raise UserError(f'{where}: allowed values of {key}: expected a list or bounds such as ">= 0, < 1", '
                                f"found {shown(allowed)}")
        self.kinds = {key: _kind_of(value) for key, value in self.defaults.items()}
        self.defaults = {key: self.convert(key, value, where) for key, value in self.defaults.items()}

    @classmethod
    def from_file(cls, path: Path) -> "_Schema":
        return cls(path, _read_yaml(path))

    def convert(self, key: str, value: object, where: str) -> Any:  # noqa: ANN401
        """Return `value`, found in `where`, in the key's type; raise UserError when that or the choices forbid it."""
        if key not in self.defaults:
            raise UserError(self._unknown_key(key, where))
        name = f"--{key}" if where == "the command line" else key
        kind = self.kinds[key]
        value = our_value(key, value)
        converted = _to_type(value, kind)
        if converted is None:
            raise UserError(f"{where}: {name}: expected {_TYPE_NAMES[kind]}, found {shown(value)}")
        if isinstance(converted, str):
            check_path(converted, f"{where}: {name}")  # whatever is no path is shorter than one
        allowed = self.allowed.get(key)
        if isinstance(allowed, list):
            by_lower_case = {str(choice).lower(): choice for choice in allowed}
            if str(converted).lower() not in by_lower_case:
                raise UserError(f"{where}: {name}: expected one of {', '.join(map(str, allowed))}; "
                                f"found {shown(value)}{_nearest(str(converted), map(str, allowed))}")
            choice = by_lower_case[str(converted).lower()]
            return choice == "true" if set(allowed) == _SWITCH else choice
        for sign, limit in re.findall(_BOUND, allowed or ""):
            # A comparison with NaN is false, which keeps it out as well.
            if isinstance(converted, str) or not _COMPARISONS[sign](converted, float(limit)):
                raise UserError(f"{where}: {name}: expected a value {allowed}, found {shown(value)}")
        if isinstance(converted, float) and not math.isfinite(converted):
            raise UserError(f"{where}: {name}: expected a finite number, found {shown(value)}")
        return converted

    def help_text(self, description: str) -> str:
        """List every option with its help text, default and allowed values."""
        width = max(60, shutil.get_terminal_size().columns - 2)
        lines = [description, "", f"usage: {Path(sys.argv[0]).name} [--key value ...]", "", "options:"]
        for key, text in _OPTIONS_OF_THE_LOADER.items():
            lines += [f"  --{key} FILE", *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]
        for key, default in self.defaults.items():
            allowed = self.allowed.get(key)
            facts = [self.help.get(key, ""), f"default: {shown(default, 1000)}"]
            if allowed is not None:
                facts.append(f"one of: {', '.join(map(str, allowed))}" if isinstance(allowed, list) else allowed)
            text = "; ".join(fact for fact in facts if fact)
            lines += [f"  --{key}", *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]
        return "\n".join(lines)

    def _unknown_key(self, key: str, where: str) -> str:
        name = f"option --{key}" if where == "the command line" else f"key {key!r}"
        members = [known for known in self.defaults if known.startswith(f"{key}.")]
        if members:
            return f"{where}: {name} is a group of keys; set its members, for example {members[0]}"
        # A member's name without its group is the likeliest slip, so it is compared too.
        namesakes = [known for known in self.defaults if known.rsplit(".", 1)[-1] == key]
        if HINTS.get(key) in self.defaults:
            namesakes = [HINTS[key]]
        suggestion = f"; did you mean {' or '.join(namesakes)}?" if namesakes else _nearest(key, self.defaults)
        return f"{where}: unknown {name}{suggestion or '; --help lists all of them'}"


def _read_yaml(path: Path) -> list[dict]:
    """Return the file's three documents; those that are absent are empty."""
    documents = read_yaml(path)
    documents = [{} if document is None else document for document in documents]
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, dict):
            raise UserError(f"{path}: document {number} holds {shown(document)}; expected `key: value` lines")
    if len(documents) > 3:
        raise UserError(f"{path}: {len(documents)} documents; expected at most three (values, help, allowed values)")
    return documents + [{}] * (3 - len(documents))


class _IniParser(configparser.ConfigParser):
    """Keys keep their capitals: Lamb.learning_rate."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _read_ini(path: Path) -> dict[str, str]:
    parser = _IniParser(interpolation=None)
    text = read_text(path, "--ini_path", largest=LARGEST_INI)
    try:
        parser.read_string(text, source=path.name)
    except configparser.Error as error:
        raise UserError(f"{path}: cannot be read as an ini file: {' '.join(str(error).split())}") from error
    if parser.sections() != ["config"]:
        raise UserError(f"{path}: sections {shown(parser.sections())} found; expected one section, [config]")
    return {key: _unquoted(value) for key, value in parser["config"].items()}


def _find_file(option: str, given: str) -> Path:
    """Resolve a path from the current directory, else from this file's, as `../../pretrain_config.yaml` is meant.

    A start by something other than a shell, such as ModelArts, has any current directory: then from the repository.
    """
    check_path(given, option)
    for candidate in (Path(given), HERE / given, REPOSITORY / given):
        if candidate.is_file():
            return candidate
    raise UserError(f"{option} {given}: no such file, neither from {Path.cwd()} nor from {HERE}")


def split_command_line(argv: Sequence[str]) -> dict[str, str]:
    """Read `--key value` and `--key=value`; the last of a repeated key wins."""
    options = {}
    remaining = iter(argv)
    for argument in remaining:
        if not argument.startswith("--") or argument == "--":
            raise UserError(f"the command line: unexpected {quoted(argument)}; options are written `--key value`")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            value = next(remaining, None)
            if value is None or value.startswith("--"):
                raise UserError(f"the command line: --{key} needs a value: `--{key} value`")
        options[key] = value
    return options


def _to_type(value: object, kind: type) -> Any:  # noqa: ANN401
    """Return `value` (from YAML, or text) as `kind`, or None when it is not one."""
    if kind is Words:
        return _to_words(value)
    if kind is list:
        return _to_list(value)
    if kind is str:
        return str(value).lower() if isinstance(value, bool) else str(value) if _is_scalar(value) else None
    if kind is bool:
        return {"true": True, "false": False}.get(str(value).lower())
    accepted = str | int if kind is int else str | int | float  # 1.5 is not quietly cut to a whole number
    if isinstance(value, bool) or not isinstance(value, accepted):
        return None
    try:
        return kind(value)
    except (ValueError, OverflowError):
        return None


def _kind_of(default: object) -> type:
    return Words if isinstance(default, list) and default and isinstance(default[0], str) else type(default)


def _to_words(value: object) -> list[str] | None:
    items = value.strip("[] ").split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return None
    return [word for word in (item.strip(" '\"") for item in items) if word]


def _to_list(value: object) -> list[int] | None:
    items = value.strip("[] ").split(",") if isinstance(value, str) else value
    if items == [""]:
        return []
    if not isinstance(items, list):
        return None
    numbers = [_to_type(item, int) for item in items]
    return None if None in numbers else numbers


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _flatten(tree: Mapping, where: str, prefix: str = "") -> dict[str, Any]:
    """Turn nested groups into dotted keys; a null becomes the empty string."""
    flat = {}
    for key, value in tree.items():
        if not isinstance(key, str):
            raise UserError(f"{where}: key {prefix}{key!r} is not text; quote it")
        if isinstance(value, dict):
            flat |= _flatten(value, where, f"{prefix}{key}.")
        elif _is_scalar(value) or isinstance(value, list):
            flat[prefix + key] = "" if value is None else value
        else:
            raise UserError(f"{where}: {prefix}{key}: {shown(value)} is no number, text, list or group; quote it")
    return flat


def _unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[name] = value
    return tree


def _by_key(document: Mapping, keys: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Spread a help or allowed-values document over the keys: by full name, or else by last part."""
    flat = _flatten(document, where)
    spread = {key: flat.get(key, flat.get(key.rsplit(".", 1)[-1])) for key in keys}
    unused = set(flat) - set(keys) - {key.rsplit(".", 1)[-1] for key in keys}
    if unused:
        raise UserError(f"{where}: help or allowed values for keys that have no value: {', '.join(sorted(unused))}")
    return {key: value for key, value in spread.items() if value is not None}


def _nearest(word: str, known: Iterator[str] | Mapping) -> str:
    matches = difflib.get_close_matches(word[:_LONGEST_WORD], list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text
