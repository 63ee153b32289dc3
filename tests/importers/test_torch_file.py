"""Torch's files: read to the same values, however they were saved, and without executing anything."""

from __future__ import annotations

import collections
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.importers.recorded import FIXTURES, needed

from patchloom.errors import FormatError, MissingError
from patchloom.importers.checkpoint import read_checkpoint
from patchloom.importers.torch_file import Blank, read_torch_file


def weights() -> dict[str, torch.Tensor]:
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.uint8)
    plain = {str(kind): (torch.arange(12) % 7).reshape(3, 4).to(kind) for kind in kinds}
    plane = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    views = {"turned": plane.t(), "part": plane[1:3, 2:5], "step": plane[:, ::2], "whole": plane}
    odd = {"number": torch.tensor(3.5), "nothing": torch.zeros(0, 3), "bool": torch.tensor([True, False])}
    return plain | views | odd


@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict, lambda w: {"state_dict": w, "epoch": 3}])
def test_tensors_are_read_as_torch_reads_them(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(wrap(weights()), path)
    found = read_checkpoint(path)
    assert list(found.tensors) == list(weights())
    for name, value in weights().items():
        assert found.tensors[name].dtype == value.dtype
        assert torch.equal(found.tensors[name], value), name
    assert found.passengers == (("epoch",) if "epoch" in wrap({}) else ())


def test_modules_state_and_parameters(tmp_path: Path) -> None:
    layer = torch.nn.Conv2d(2, 3, 1)
    torch.save({"state_dict": layer.state_dict(), "own": torch.nn.Parameter(torch.ones(2))}, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(found.tensors["weight"], layer.weight)
    assert found.passengers == ("own",)


@needed
def test_lightnings_callbacks_and_optimisers_are_named_and_not_built() -> None:
    path = FIXTURES / "quirks" / "pl14_callbacks.ckpt"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # what everybody else would have to switch off
    found = read_checkpoint(path)
    assert {"callbacks", "optimizer_states", "native_amp_scaling_state"} <= set(found.passengers)
    assert torch.equal(found.tensors["cond_stage_model.patch_fc.bias"], torch.arange(3.0))
    assert int(found.tensors["inception.blocks.0.0.bn.num_batches_tracked"]) == 5


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "boom")


class Quiet:
    """An object with state, items and a class that nobody has."""

    def __init__(self) -> None:
        self.state = {"x": 1}


@pytest.mark.parametrize("place", ["beside", "within", "instead"])
def test_a_bomb_does_not_go_off(place: str, tmp_path: Path) -> None:
    bomb, target, path = Bomb(tmp_path / "crater"), tmp_path / "crater", tmp_path / "a.ckpt"
    tensors: dict[str, Any] = {"weight": torch.ones(2)}
    held = {
        "beside": {"state_dict": tensors, "callbacks": {"x": bomb}},
        "within": {"state_dict": tensors | {"bomb": bomb}},
        "instead": bomb,
    }
    torch.save(held[place], path)
    pickle.loads(pickle.dumps(bomb))
    assert target.exists(), "the bomb itself must work, or this test says nothing"
    target.unlink()
    if place == "instead":
        with pytest.raises(FormatError, match=r"an object of `[\w.]+`, of which nothing was built"):
            read_checkpoint(path)
    else:
        assert torch.equal(read_checkpoint(path).tensors["weight"], torch.ones(2))
    assert not target.exists()


def test_objects_become_blanks(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(1)}, "quiet": Quiet(), "dtype": torch.float16}, tmp_path / "a.ckpt")
    root = read_torch_file(tmp_path / "a.ckpt").root
    assert isinstance(root["quiet"], Blank)
    assert root["quiet"].name.endswith("Quiet")
    assert isinstance(root["dtype"], Blank)


def archive(path: Path, pickled: bytes, **storages: bytes) -> Path:
    """A torch file of any content."""
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a/data.pkl", pickled)
        for name, held in storages.items():
            out.writestr(f"a/data/{name.removeprefix('s')}", held)
    return path


def test_a_laughing_pickle_is_given_up(tmp_path: Path) -> None:
    """A few bytes that describe 2^40 values."""
    laugh: list[Any] = ["ha"]
    for _ in range(40):
        laugh = [laugh, laugh]
    with pytest.raises(FormatError, match="beyond what a checkpoint does"):
        read_checkpoint(archive(tmp_path / "a.ckpt", pickle.dumps({"state_dict": laugh}, 2)))


class Ref:
    """A tensor as torch pickles it, with sizes of the test's choice."""

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> None:
        self.arguments: tuple[Any, ...] = (
            ("storage", torch.FloatStorage, "0", "cpu", 4),
            offset,
            shape,
            strides,
            False,
            {},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    """Writes the storages of `Ref` as torch does."""

    def persistent_id(self, value: Any) -> Any:
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None


def described(path: Path, *references: Ref) -> Path:
    held = io.BytesIO()
    Pickler(held, 2).dump({f"w{number}": reference for number, reference in enumerate(references)})
    return archive(path, held.getvalue(), s0=torch.arange(4.0).numpy().tobytes())


def test_the_pickler_of_these_tests_is_torchs(tmp_path: Path) -> None:
    tensors = read_checkpoint(described(tmp_path / "a.ckpt", Ref((2, 2), (2, 1)), Ref((2,), (2,), 1))).tensors
    assert tensors["w0"].tolist() == [[0, 1], [2, 3]]
    assert tensors["w1"].tolist() == [1, 3]


@pytest.mark.parametrize(
    "bad",
    [
        Ref((1 << 20, 1 << 20), (0, 0)),  # four terabytes that are one value
        Ref((5,), (1,)),
        Ref((2, 2), (4, 1)),
        Ref((2,), (1,), 3),
        Ref((2,), (-1,), 1),
        Ref((4,), (1, 1)),
        Ref((2,), (1,), -1),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(bad: Ref, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="does not fit its 4 values"):
        read_checkpoint(described(tmp_path / "a.ckpt", bad))


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.arange(1000.0)}}, path)
    held = bytearray(path.read_bytes())
    held[held.index(torch.arange(1000.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(held)
    with pytest.raises(FormatError, match="checksum"):
        read_checkpoint(path)


@settings(max_examples=12)
@given(share=st.floats(0.01, 0.999))
def test_a_half_downloaded_file(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("half") / "a.ckpt"
    torch.save({"state_dict": {"w": torch.arange(1000.0)}}, path)
    held = path.read_bytes()
    path.write_bytes(held[: int(len(held) * share)])
    with pytest.raises(FormatError, match=r"download (or copy )?it again|begins with|it ends early"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", "web page"),
        (b"", "is empty"),
        (pickle.dumps({"w": 1}), r"before 1\.6; bring it to today's form"),
        (b"\xff\xff\xff\xff\x00\x00\x00\x00{", "damaged or not safetensors"),
    ],
)
def test_files_that_are_no_checkpoint(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_checkpoint(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as out:
        out.writestr("word/document.xml", "<xml/>")
    with pytest.raises(FormatError, match=r"holds 0 `data.pkl`"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_entries_are_named_where_there_is_no_state_dict(tmp_path: Path) -> None:
    torch.save({"generator": weights(), "opt": {"x": 1}}, tmp_path / "a.ckpt")
    with pytest.raises(FormatError, match="its entries are generator, opt"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(MissingError, match="no checkpoint"):
        read_checkpoint(tmp_path / "b.ckpt")


def test_safetensors_whole_and_in_shards(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    save_file(tensors, tmp_path / "whole.bin")  # the suffix is not believed
    assert read_checkpoint(tmp_path / "whole.bin").tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        save_file({name: value}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    found = read_checkpoint(index).tensors
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


@pytest.mark.parametrize(
    ("placed", "message"),
    [
        ({"weight_map": {"a": "../a.safetensors"}}, "outside its own folder"),
        ({"weight_map": {"a": "a.safetensors", "c": "a.safetensors"}}, "disagree on c"),
        ({"weight_map": {}}, "no index of shards"),
        ({"weights": {}}, "no index of shards"),
        ([1], "no index of shards"),
    ],
)
def test_a_bad_index_of_shards(placed: Any, message: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps(placed))
    with pytest.raises(FormatError, match=message):
        read_checkpoint(index)
