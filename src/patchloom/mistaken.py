"""What lies under the name of a file of weights when it is none: pages, pointers and messages that a download left.

Told by first bytes, never by a suffix.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from pathlib import Path

_SEEN = 4096  # bytes that are looked at
_AGAIN = "take the link of the file itself, log in where that is asked for, and download it again"
_POINTER = b"version https://git-lfs.github.com/spec/"
_BINARY = {
    b"\x1f\x8b": "is packed by gzip; unpack it first",
    b"\x42\x5a\x68": "is packed by bzip2; unpack it first",
    b"\xfd7zXZ": "is packed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "is packed by zstd; unpack it first",
    b"7z\xbc\xaf": "is packed by 7-Zip; unpack it first",
    b"Rar!": "is packed by RAR; unpack it first",
    b"\x89HDF": "is HDF5, in which Keras keeps weights; weights of torch, or safetensors, are read here",
    b"\x93NUMPY": "is an array of numpy; weights of torch, or safetensors, are read here",
    b"GGUF": "is GGUF, weights rounded for llama.cpp; take the original ones, of torch or safetensors",
    b"\x89PNG": "is a picture",
    b"\xff\xd8\xff": "is a picture",
    b"II*\x00": "is a picture or a slide",
    b"MM\x00*": "is a picture or a slide",
    b"%PDF": "is a PDF",
}


def mistaken(path: Path) -> str | None:
    """What a file is instead of weights, and what to do, as in "is a web page ...; ..."; None where it is not known.

    Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        first = file.read(_SEEN)
    if not first:
        return "is empty; download it again"
    for start, told in _BINARY.items():
        if first.startswith(start):
            return told
    if first[257:262] == b"ustar":
        return "is a tar archive; unpack it, or name a file that it holds"
    return _written(first)


def _written(first: bytes) -> str | None:
    try:
        text = getincrementaldecoder("utf-8-sig")().decode(first).strip()  # the last letter may be cut in two
    except UnicodeDecodeError:
        return None
    if not text or not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    if first.startswith(_POINTER):
        size = re.search(r"^size (\d+)$", text, re.MULTILINE)
        whole = f" of {int(size[1]):,} bytes" if size and len(size[1]) < 20 else ""
        return (
            f"is a pointer of git-LFS that stands for a file{whole}; run `git lfs pull` in its repository, or "
            "download the file itself"
        )
    if text[:200].lower().startswith(("<!doctype html", "<html", "<head")):
        title = re.search(r"<title[^>]*>\s*(.{1,60}?)\s*<", text, re.IGNORECASE | re.DOTALL)
        named = f" (`{' '.join(title[1].split())}`)" if title else ""
        return f"is a web page{named}, which a server sent in the file's place; {_AGAIN}"
    plain = " ".join(text.split())
    return f"is text that begins `{plain[:80]}`, as a server sends in a file's place; {_AGAIN}"
