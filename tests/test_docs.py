"""What the documents say of the code is so: every Python block imports what is there and calls it as it wants."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT

from patchloom.cli.main import VERBS

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            yield f"{page.relative_to(ROOT)}-{number}", code


def imported(tree: ast.Module) -> dict[str, Any]:
    """The names that a block imports from Patchloom, and what they are. Raises where one is not there."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("patchloom"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                found[alias.asname or alias.name] = _member(module, alias.name)
    return found


def _member(module: Any, name: str) -> Any:
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(f"{module.__name__}.{name}")


def check_call(called: Callable[..., Any], call: ast.Call) -> None:
    """Raises TypeError where the arguments do not fit."""
    if any(isinstance(one, ast.Starred) for one in call.args) or any(word.arg is None for word in call.keywords):
        return
    inspect.signature(called).bind(*call.args, **{str(word.arg): None for word in call.keywords})


@pytest.mark.parametrize(("place", "code"), list(blocks()), ids=lambda value: value if "\n" not in value else "")
def test_a_block_calls_what_is_there(place: str, code: str) -> None:
    tree = ast.parse(code, place)
    names = imported(tree)
    assert names, f"{place} imports nothing of patchloom"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            check_call(names[node.func.id], node)


def test_a_wrong_call_is_noticed() -> None:
    from patchloom.pipelines.pipeline import load_pipeline

    call = ast.parse("load_pipeline('a', colour='red')").body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    with pytest.raises(TypeError, match="colour"):
        check_call(load_pipeline, call.value)


PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([a-z]+)[^|]*\| (.*) \|$", PYTHON, re.MULTILINE)


def test_every_verb_has_its_function() -> None:
    assert set(VERBS) == {verb for verb, _ in ROWS}


@pytest.mark.parametrize("name", sorted({n for _, row in ROWS for n in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)", row)}))
def test_a_function_of_the_table_is_there_and_documented(name: str) -> None:
    module, _, function = name.rpartition(".")
    found = getattr(importlib.import_module(f"patchloom.{module}"), function)
    assert callable(found)
    assert inspect.getdoc(found)


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []
