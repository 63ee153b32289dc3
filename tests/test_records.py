"""Laws of records on disk: what is dumped loads again, and what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchloom.errors import FormatError, MissingError
from patchloom.records import dump, load, read_json, read_yaml, told


@dataclass(frozen=True)
class Network:
    width: int
    kind: Literal["unet", "dit"] = "unet"
    depths: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Recipe:
    name: str
    rate: float
    network: Network
    split: tuple[float, float] = (0.9, 0.1)
    teacher: Network | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    crop: int | Literal["whole"] = "whole"
    compiled: bool = False
    extra: Any = None


finite = st.floats(allow_nan=False, allow_infinity=False)
networks = st.builds(
    Network, st.integers(), st.sampled_from(["unet", "dit"]), st.lists(st.integers(), max_size=4).map(tuple)
)
recipes = st.builds(
    Recipe,
    name=st.text(max_size=8),
    rate=finite,
    network=networks,
    split=st.tuples(finite, finite),
    teacher=st.none() | networks,
    sizes=st.dictionaries(st.text(max_size=4), st.integers(), max_size=3),
    crop=st.integers() | st.just("whole"),
    compiled=st.booleans(),
    extra=st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=3),
)
SMALL: dict[str, Any] = {"name": "a", "rate": 0.5, "network": {"width": 8}}


@given(recipes)
def test_what_is_dumped_loads_again(recipe: Recipe) -> None:
    assert load(Recipe, dump(recipe), "recipe") == recipe


@given(recipes)
def test_a_dump_is_json_and_nothing_else(recipe: Recipe) -> None:
    assert json.loads(json.dumps(dump(recipe))) == dump(recipe)


def test_what_is_not_said_takes_its_default() -> None:
    assert load(Recipe, SMALL, "recipe") == Recipe("a", 0.5, Network(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": "b"}, "recipe: unknown key `nam`; did you mean `name`?"),
        ({"qqq": 1}, "recipe: unknown key `qqq`; known are name, rate, network"),
        ({"network": {"width": 8, "dept": 1}}, "recipe: network: unknown key `dept`; did you mean `depths`?"),
        ({"network": {}}, "recipe: network: missing `width`"),
        ({"network": 3}, "recipe: network: expected a mapping of Network's fields, found 3"),
        ({"network": {"width": "8"}}, "recipe: network: width: expected int, found '8'"),
        ({"network": {"width": True}}, "recipe: network: width: expected int, found True"),
        ({"network": {"width": 8, "kind": "vit"}}, "recipe: network: kind: 'vit' is none of 'unet', 'dit'"),
        ({"network": {"width": 8, "depths": [1, "2"]}}, "recipe: network: depths[1]: expected int, found '2'"),
        ({"rate": "fast"}, "recipe: rate: expected float, found 'fast'"),
        ({"rate": True}, "recipe: rate: expected float, found True"),
        ({"split": [1.0]}, "recipe: split: expected 2 values, found 1"),
        ({"split": 1.0}, "recipe: split: expected a list, found 1.0"),
        ({"sizes": {"a": "b"}}, "recipe: sizes.a: expected int, found 'b'"),
        ({"sizes": []}, "recipe: sizes: expected a mapping, found []"),
        ({"crop": "half"}, "recipe: crop: 'half' is none of 'whole'"),
        ({"compiled": 1}, "recipe: compiled: expected bool, found 1"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        load(Recipe, SMALL | change, "recipe")
    assert str(caught.value).startswith(message)


def test_every_missing_key_is_named() -> None:
    with pytest.raises(FormatError, match="recipe: missing `rate`, `network`"):
        load(Recipe, {"name": "a"}, "recipe")


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_record_is_a_mapping(values: Any) -> None:
    with pytest.raises(FormatError, match="expected a mapping of Recipe's fields"):
        load(Recipe, values, "recipe")


def test_numbers_as_yaml_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nrate: 1e-4\nnetwork: {width: 8}\nsplit: [1, 0]\n")
    recipe = read_yaml(Recipe, path)
    assert recipe == Recipe("a", 1e-4, Network(8), (1.0, 0.0))
    assert all(type(value) is float for value in recipe.split)


def test_json_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(dump(load(Recipe, SMALL, "recipe"))))
    assert read_json(Recipe, path) == Recipe("a", 0.5, Network(8))


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_missing_or_broken_file_is_named(read: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"there is no file `.*gone`"):
        read(Recipe, tmp_path / "gone")
    (tmp_path / "broken").write_bytes(b"{ name: [")
    with pytest.raises(FormatError, match=r"`.*broken` is not (JSON|YAML)"):
        read(Recipe, tmp_path / "broken")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(FormatError, match=r"`.*bytes` is not (JSON|YAML)"):
        read(Recipe, tmp_path / "bytes")


def test_the_file_stands_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nrate: 1\nnetwork: {width: 8}\ncolour: red\n")
    with pytest.raises(FormatError, match=r"recipe\.yaml: unknown key `colour`"):
        read_yaml(Recipe, path)


@given(recipes)
def test_what_is_told_loads_again_and_holds_no_default(recipe: Recipe) -> None:
    said = told(recipe)
    assert load(Recipe, said, "recipe") == recipe
    defaults = dump(Recipe("", 0.0, Network(0)))
    assert [key for key in said if key not in ("name", "rate", "network") and said[key] == defaults[key]] == []


def test_defaults_are_left_out_at_any_depth() -> None:
    recipe = Recipe("a", 0.5, Network(8), teacher=Network(3, "dit"))
    assert told(recipe) == {"name": "a", "rate": 0.5, "network": {"width": 8}, "teacher": {"width": 3, "kind": "dit"}}
