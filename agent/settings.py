"""YAML -> a tree of msgspec Structs, for both programs: strict, with messages that carry the mend.

- Unknown keys are refused, with the nearest known one named. All faults of a file are reported at once.
- ``${NAME}`` and ``${NAME:-default}`` in a string value are replaced from the environment; ``$${`` stands for ``${``.
  A value that is one such expression may also fill a number or a truth value.
- A secret may stand in a file of its own (`read_secret`).

`parse` is pure; `read_text` and `read_secret` read. Both programs import this module; it knows nothing of either.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import SplitResult, urlsplit

import msgspec
import yaml

_EXPRESSION = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_SECRET_ENDINGS = ("password", "token", "api_key")

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

MAX_VALUES = 1_000_000
"""In one file: thousands of tenants, each with keys and limits, are far below it."""

Tree = TypeVar("Tree", bound=msgspec.Struct)


class SettingsError(Exception):
    """A configuration that cannot be used: one line per fault, each with the place, what is wrong and the mend."""


class _Expanded(str):
    """A string that came, at least in part, from the environment."""

    __slots__ = ()


def parse(kind: type[Tree], text: str, *, where: str, env: Mapping[str, str], rules: Callable[[Tree], Iterable[str]]) -> Tree:
    """The tree of type ``kind`` that ``text`` (YAML) describes.

    Args:
        kind: a Struct whose fields all have defaults or are reported when missing.
        where: name of the file, for messages.
        env: the environment for ``${NAME}``.
        rules: what no single field can say; yields faults.

    Raises:
        SettingsError: names every fault.
    """
    try:
        data = yaml.safe_load(text)
    except RecursionError:
        raise SettingsError(f"{where}: not usable YAML: it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # The library's own slip: a value that only looks like a date or a number, or a tag that does not fit.
        raise SettingsError(f"{where}: not YAML: {' '.join(str(error).split())}; write such a value in quotes") from None
    faults: list[str] = []
    _check_size(data, where)
    checked = _checked(kind, _expand({} if data is None else data, "", env, faults), "", faults)
    if not faults:
        try:
            tree = msgspec.convert(checked, kind)
        except msgspec.ValidationError as error:
            faults.append(_lower(str(error)))
        else:
            faults.extend(rules(tree))
            if not faults:
                return tree
    raise SettingsError("\n".join(f"{where}: {fault}" for fault in faults))


def checked(kind: type[msgspec.Struct], values: Mapping[str, Any], *, at: str) -> tuple[dict[str, Any], list[str]]:
    """Single settings of a section, converted to their fields' types, and the faults found. For the command line."""
    faults: list[str] = []
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return {name: _value(fields[name], value, f"{at}.{name}", faults) for name, value in values.items()}, faults


def duration_s(text: str) -> float | None:
    """The seconds that a text such as ``90s``, ``15m``, ``24h``, ``7d`` or ``2w`` stands for; None for any other text."""
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * _SECONDS[match[2]] if match else None


def read_text(path: str | Path) -> str:
    """The configuration file's text. Raises SettingsError."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:  # what is not UTF-8 and, in a path, NUL
        raise SettingsError(f"{path}: cannot be read: {_reason(error)}; name a readable file with --config") from None


def read_secret(path: str, field: str) -> str:
    """The text of a secret file, without white space around it. Raises SettingsError; never quotes what is in it."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:  # what is not UTF-8 and, in a path, NUL
        raise SettingsError(f"{field}: {path} cannot be read: {_reason(error)}; check the path and its mode") from None
    secret = text.strip()
    if not secret:
        raise SettingsError(f"{field}: {path} is empty; write the secret into it, or take the setting out")
    return secret


def _check_size(data: Any, where: str) -> None:
    """Raises SettingsError for a tree beyond `MAX_VALUES`. A few lines of aliases can stand for more than any memory holds,
    or for a tree that has no end."""
    count, left = 0, [data]
    while left:
        value = left.pop()
        count += 1
        if count > MAX_VALUES:
            raise SettingsError(f"{where}: has more than {MAX_VALUES} values, aliases counted each time; write fewer")
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            left.extend(value)


def url_of(text: str) -> SplitResult:
    """The parts of a URL; of a text that cannot be one, the parts of an empty one."""
    try:
        return urlsplit(text)
    except ValueError:  # brackets that are no IPv6 address, for instance
        return urlsplit("")


def _expand(value: Any, at: str, env: Mapping[str, str], faults: list[str]) -> Any:
    if isinstance(value, dict):
        return {_text(key, at, faults): _expand(item, _join(at, key), env, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{at}[{n}]", env, faults) for n, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return _text(value, at, faults)

    def found(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name is None:
            return "${"
        if name not in env and default is None:
            faults.append(f"{at}: the environment variable {name} is not set; set it, or give a default: ${{{name}:-value}}")
        return env.get(name, default or "")

    return _Expanded(_text(_EXPRESSION.sub(found, value), at, faults))


def _text(value: Any, at: str, faults: list[str]) -> Any:
    """``value``, noted as a fault if it is a text that cannot be written down, or be a path."""
    if isinstance(value, str) and _UNWRITABLE.search(value):
        faults.append(f"{at or 'the file'}: has a NUL or half of a surrogate pair in a text; take it out")
        return ""
    return value


def _checked(kind: type[msgspec.Struct], data: Any, at: str, faults: list[str]) -> Any:
    """``data`` with every leaf converted to its field's type; what does not fit is added to ``faults``."""
    if data is None and at:
        return {}  # a section with all its keys commented out
    if not isinstance(data, dict):
        faults.append(f"{at or 'the file'}: expected a mapping of settings, got {_yaml_name(data)}")
        return {}
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if field.required and name not in data:
            faults.append(f"{_join(at, name)}: is missing; it has no default")
    checked = {}
    for key, value in data.items():
        place = _join(at, key)
        if key not in fields:
            faults.append(f"{place}: there is no such setting; {_nearest(str(key), list(fields))}")
        else:
            checked[key] = _value(fields[key].type, value, place, faults)
    return checked


def _value(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _checked(kind, value, place, faults)
    inner = get_args(kind)[:1]
    if get_origin(kind) in (list, tuple) and inner and isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct):
        if not isinstance(value, list):
            faults.append(f"{place}: expected a list, got {_yaml_name(value)}")
            return []
        return [_checked(inner[0], item, f"{place}[{n}]", faults) for n, item in enumerate(value)]
    try:
        if isinstance(value, _Expanded):
            return msgspec.convert(str(value), kind, strict=False)
        return msgspec.convert(_plain(value), kind)
    except msgspec.ValidationError as error:
        quoted = "" if place.endswith(_SECRET_ENDINGS) else f" (the value is {value!r})"
        faults.append(f"{place}: {_lower(str(error))}{quoted}{_choices(kind)}")
        return None


def _plain(value: Any) -> Any:
    """With texts that are nothing but texts inside: msgspec writes no others down, such as labels into a record."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, _Expanded) else value


def _join(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"


def _choices(kind: Any) -> str:
    return f"; one of {', '.join(map(str, get_args(kind)))}" if get_origin(kind) is Literal else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _yaml_name(value: object) -> str:
    return {list: "a list", str: "text", dict: "a mapping", type(None): "nothing"}.get(type(value), type(value).__name__)


def _reason(error: Exception) -> str:
    return (
        (error.strerror or str(error))
        if isinstance(error, OSError)
        else "it is not UTF-8 text"
        if isinstance(error, UnicodeDecodeError)
        else str(error)
    )
