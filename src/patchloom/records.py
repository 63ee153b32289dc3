"""Plain records on disk: frozen dataclasses to JSON or YAML mappings and back, strictly.

A file holds the dataclass's fields and nothing else. An unknown key is an error that names its nearest neighbour,
a missing one is named, a value of the wrong kind says where it stands.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from patchloom.errors import FormatError, MissingError
from patchloom.whole import write_text

T = TypeVar("T")


def dump(record: Any) -> dict[str, Any]:
    """A dataclass (nested ones, tuples and None included) as plain JSON values."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(record))))


def told(record: Any) -> dict[str, Any]:
    """What `dump` gives, without the fields, at any depth, whose value is their default."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(_told(record))))


def load(kind: type[T], values: Any, where: str) -> T:
    """Build `kind` from a mapping; FormatError names the key that does not fit, as in `config.yaml: model.width`."""
    if not isinstance(values, Mapping):
        raise FormatError(f"{where}: expected a mapping of {kind.__name__.lstrip('_')}'s fields, found {values!r:.80}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise FormatError(f"{where}: unknown key `{key}`; {_neighbour(str(key), list(fields))}")
    required = [name for name, f in fields.items() if _is_required(f) and name not in values]
    if required:
        raise FormatError(f"{where}: missing {', '.join(f'`{name}`' for name in required)}")
    hints = typing.get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def write_json(record: Any, path: Path) -> None:
    """A dataclass as a JSON file, which appears under its name when it is whole.

    Raises MissingError where the folder is not there, CapacityError on a full disk.
    """
    write_text(path, json.dumps(dump(record), indent=2) + "\n")


def read_json(kind: type[T], path: Path) -> T:
    """Read a JSON file as `kind`. Raises MissingError or FormatError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"there is no file `{path}`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"`{path}` is not JSON: {error}") from None
    return load(kind, values, str(path))


def read_yaml(kind: type[T], path: Path) -> T:
    """Read a YAML file as `kind`. Raises MissingError or FormatError."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"there is no file `{path}`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"`{path}` is not YAML: {error}") from None
    return load(kind, values, str(path))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _told(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        said = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            field.name: _told(held) for field, held in said.items() if _is_required(field) or held != _default(field)
        }
    if isinstance(value, Mapping):
        return {key: _told(held) for key, held in value.items()}
    return [_told(item) for item in value] if isinstance(value, (list, tuple)) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _neighbour(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911 - one return a kind of value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise FormatError(f"{where}: {value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    if dataclasses.is_dataclass(hint):
        return load(typing.cast(type[Any], hint), value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise FormatError(f"{where}: expected a mapping, found {value!r:.80}")
        return {str(key): _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(hint, value, where)


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    for kind in rest[:-1]:
        try:
            return _value(kind, value, where)
        except FormatError:
            continue
    return _value(rest[-1], value, where)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise FormatError(f"{where}: expected a list, found {value!r:.80}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise FormatError(f"{where}: expected {len(kinds)} values, found {len(value)}")
    return tuple(_value(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, str):  # PyYAML reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise FormatError(f"{where}: expected {kind.__name__}, found {value!r:.80}")
    return value
