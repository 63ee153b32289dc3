"""Says what a torch checkpoint holds without building any of it. Runs alone, in a process of its own.

    python -I -S pickle_reader.py < data.pkl > description.json

Python's pickle is a program: it names functions and calls them. Here every name that it asks for gives a blank of this
file, so nothing outside of this file is ever called. Tensors become descriptions (which storage, where in it); the
parent reads their bytes. A blank swallows arguments, state and items.

The answer is one JSON object: {"root": NODE} or {"error": TEXT}, where a NODE is a plain value,
{"map": [[key, NODE], ...]}, {"list": [NODE, ...]}, {"tensor": [storage, dtype, numel, offset, shape, strides]}
or {"blank": "module.name"}.
"""

# ruff: noqa: D102
from __future__ import annotations

import io
import json
import pickle
import sys
from typing import Any

MOST_NODES = 300_000
MOST_DEPTH = 60
MEMORY = 4 << 30

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class Blank:
    """Stands for an object of a class that is not admitted."""

    told = "object"

    def __new__(cls, *args: Any, **kwargs: Any) -> Blank:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any) -> Blank:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


class Mapping(dict[Any, Any]):
    """Stands for OrderedDict and defaultdict: takes items, forgets attributes and factories."""

    def __new__(cls, *args: Any) -> Mapping:
        return dict.__new__(cls)

    def __init__(self, *args: Any) -> None:
        dict.__init__(self)
        pairs = args[-1] if args and isinstance(args[-1], (list, tuple)) else ()
        for key, value in pairs:
            self[key] = value

    def __setstate__(self, state: Any) -> None:
        pass


class Storage:
    """A storage's type by its name, as persistent ids hold it."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class Tensor:
    """Where a tensor's values lie."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor | Blank:
    """The arguments of torch's function of that purpose; requires_grad, hooks and metadata are dropped."""
    if not isinstance(storage, tuple):
        return Blank()
    key, dtype, numel = storage
    return Tensor([key, dtype, numel, int(offset), [int(n) for n in size], [int(n) for n in stride]])


def rebuild_parameter(data: Any, *rest: Any) -> Any:
    """A parameter is its tensor."""
    return data


def blank(module: str, name: str) -> type[Blank]:
    """A class of blanks that remembers what it stands for."""
    return type("Blank", (Blank,), {"told": f"{module}.{name}"[:200]})


class Reader(pickle.Unpickler):
    """An unpickler to which no name of the file means anything but what stands here."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return rebuild_parameter
        if (module, name) in (("collections", "OrderedDict"), ("collections", "defaultdict")):
            return Mapping
        if module == "torch" and name in STORAGES:
            return Storage(STORAGES[name])
        return blank(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], Storage):
            return str(pid[2]), pid[1].dtype, int(pid[4])
        return Blank()


def node(value: Any, budget: list[int], depth: int) -> Any:  # noqa: PLR0911 - one return a kind of value
    """A value as JSON: plain values, containers and tensors; everything else is named."""
    budget[0] -= 1
    if budget[0] < 0 or depth > MOST_DEPTH:
        raise ValueError("it nests or repeats its parts beyond what a checkpoint does")
    if isinstance(value, Tensor):
        return {"tensor": value.told}
    if isinstance(value, Blank):
        return {"blank": value.told}
    if isinstance(value, dict):
        return {"map": [[name(key), node(item, budget, depth + 1)] for key, item in value.items()]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return {"list": [node(item, budget, depth + 1) for item in value]}
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    if isinstance(value, str) and len(value) < 1 << 16:
        return value
    told = getattr(value, "told", "") if isinstance(value, type) else ""
    return {"blank": told or type(value).__name__}


def name(key: Any) -> str:
    """A mapping's key; classes and other objects by what they stand for."""
    if isinstance(key, str):
        return key[:1000]
    return str(getattr(key, "told", None) or (repr(key)[:100] if isinstance(key, (int, float)) else type(key).__name__))


def limit_memory() -> None:
    """A file that asks for more than this is refused by the system, not by the machine's last byte."""
    try:
        import resource
    except ImportError:
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ValueError, OSError):
        return


def main() -> None:
    """Read standard input, write standard output."""
    limit_memory()
    try:
        root = Reader(io.BytesIO(sys.stdin.buffer.read()), encoding="utf-8").load()
        told = json.dumps({"root": node(root, [MOST_NODES], 0)})
    except Exception as error:  # whatever a hostile file provokes is one line to the parent
        told = json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})
    sys.stdout.write(told)


if __name__ == "__main__":
    main()
