"""What lies where weights should be is said, and what to do; weights themselves are never mistaken for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from patchloom.encoders.weights import read_state
from patchloom.errors import FormatError
from patchloom.importers.checkpoint import read_checkpoint
from patchloom.mistaken import mistaken
from patchloom.weights import read_tensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:6960cd\nsize 704238867\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head>\n<title>Sign in\n to go on</title></head></html>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; download it again"),
        (POINTER, "pointer of git-LFS that stands for a file of 704,238,867 bytes; run `git lfs pull`"),
        (PAGE, r"is a web page \(`Sign in to go on`\).*; take the link of the file itself, log in"),
        (b"\xef\xbb\xbf<html>", "is a web page, which"),
        (b'{"error":"Access to model is restricted"}', "is text that begins `{.*restricted.*log in"),
        (b'{"wrong":{"code": 401}}', "is text that begins"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "AccessDenied"),
        ("Zugriff verweigert: ü".encode() + 5000 * "ü".encode(), "is text that begins `Zugriff verweigert"),
        (b"\x1f\x8b\x08\x00\x00", "gzip; unpack it"),
        (b"a.txt".ljust(257, b"\0") + b"ustar\x0000", "tar archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5"),
    ],
)
@pytest.mark.parametrize("read", [read_checkpoint, read_tensors, lambda path: read_state([path])])
def test_what_a_download_left_is_named_by_every_reader(read: object, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    assert callable(read)
    with pytest.raises(FormatError, match=rf"last.ckpt` {said}" if content == b"" else said):
        read(path)


def test_weights_whole_or_in_part_are_not_mistaken(tmp_path: Path) -> None:
    save_file({"w": torch.arange(100.0)}, tmp_path / "a.safetensors")
    torch.save({"w": torch.arange(100.0)}, tmp_path / "a.pt")
    for path in sorted(tmp_path.iterdir()):
        held = path.read_bytes()
        for length in (9, 40, len(held) // 2, len(held)):
            path.write_bytes(held[:length])
            assert mistaken(path) is None, (path.name, length)


def test_other_bytes_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(128, 256)))
    assert mistaken(tmp_path / "a") is None
    with pytest.raises(FormatError, match=r"neither a torch checkpoint nor safetensors; it begins with b'.x7f.x80"):
        read_checkpoint(_written(tmp_path / "b", b"\x7f\x80" + bytes(20)))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
