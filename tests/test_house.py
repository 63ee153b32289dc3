"""The project's own house: what is imported where, how long things are, what stands in no file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import ROOT

from patchloom.cli.main import VERBS

SOURCES = sorted((ROOT / "src").rglob("*.py"))
LINES_A_FILE = 400
LINES_A_FUNCTION = 50


def run_python(program: str, *arguments: str | Path) -> str:
    """Run a program in a fresh interpreter and return what it prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORTED = """
import sys
from patchloom.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(*arguments: str | Path) -> set[str]:
    """The top-level modules that `patchloom ARGUMENTS` imports."""
    return set(run_python(IMPORTED, *arguments).splitlines()[-1].split()[1:])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.effect_noise((64, 48), 40).convert("RGB").save(path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "dataset.json").write_text('{"plots": []}')
    return tmp_path


def test_help_imports_no_verb() -> None:
    assert imported("--help") & {"torch", "numpy", "rich", "tifffile", "openslide", "PIL"} == set()


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_imports_no_torch(name: str) -> None:
    assert "torch" not in imported(name, "--help")


@pytest.mark.parametrize("kind", ["dataset", "picture"])
def test_info_imports_no_torch(kind: str, request: pytest.FixtureRequest) -> None:
    assert "torch" not in imported("info", request.getfixturevalue(kind))


# Blocks every installed distribution but those five and what they themselves require.
BARE_IMAGE = """
import importlib, importlib.metadata as metadata, pkgutil, re, sys

def required(name, seen):
    seen.add(name)
    for line in metadata.requires(name) or []:
        found = re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-")
        if "extra ==" not in line and found not in seen and found in installed:
            required(found, seen)
    return seen

installed = {d.name.lower().replace("_", "-") for d in metadata.distributions()}
allowed = {"patchloom"}
for name in ("torch", "numpy", "safetensors", "pillow", "pyyaml"):
    required(name, allowed)

class Bare:
    owners = metadata.packages_distributions()
    def find_spec(self, name, path=None, target=None):
        owners = self.owners.get(name.partition(".")[0], [])
        if owners and not any(owner.lower().replace("_", "-") in allowed for owner in owners):
            raise ImportError(f"{name} is not there on a bare GPU image")

sys.meta_path.insert(0, Bare())
import patchloom.datasets, patchloom.training
for room in (patchloom.datasets, patchloom.training):
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        importlib.import_module(module.name)
try:
    import click
except ImportError as error:
    print(error)
"""


def test_the_training_path_imports_five_packages() -> None:
    assert run_python(BARE_IMAGE).strip() == "click is not there on a bare GPU image"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LINES_A_FILE
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    bodies = {f.name: (f.body[0].lineno, f.body[-1].end_lineno or 0) for f in functions}
    lengths = {name: stop - start + 1 for name, (start, stop) in bodies.items()}
    assert {name: length for name, length in lengths.items() if length > LINES_A_FUNCTION} == {}


FOREIGN = re.compile(
    rb"/work/(?:main|shared)|/(?:home|Users)/[a-z]+/|/root/[.a-z]|/opt/(?:pypi|wheels)"  # a path of one machine
    rb"|pypi\.|pythonhosted\.|download\.pytorch\.|/\+?simple/"  # a package registry's host or address
)


def tracked() -> Iterator[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this folder is no git checkout")
    return (ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file())


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = {str(path.relative_to(ROOT)): FOREIGN.findall(path.read_bytes()) for path in tracked()}
    assert {name: places for name, places in found.items() if places} == {}


def test_every_version_floor_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    listed = [project["dependencies"], *extras, [f"python{project['requires-python']}"]]
    wanted = {requirement.partition(";")[0] for part in listed for requirement in part if "[" not in requirement}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Version floors")[2]
    given = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    assert given == wanted


def test_readme_lists_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `patchloom ([a-z]+)", text, re.MULTILINE) == list(VERBS)
