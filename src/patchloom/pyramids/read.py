"""What a written picture says about how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchloom import provenance
from patchloom.errors import FormatError, MissingError
from patchloom.pyramids.png import SIGNATURE, read_text

_JPEG = b"\xff\xd8\xff"


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """The provenance block of a .tif, .ome.tif or .png that Patchloom wrote; None for others of those kinds, and JPEG.

    Raises MissingError, and FormatError for a file that is neither TIFF nor PNG nor JPEG, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"there is no file `{path}`")
    with path.open("rb") as file:
        head = file.read(len(SIGNATURE))
    if head == SIGNATURE:
        return provenance.parse(read_text(path, provenance.KEY))
    if head.startswith(_JPEG):
        return None
    return _from_tiff(path)


def _from_tiff(path: Path) -> dict[str, Any] | None:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            text, ome = file.pages[0].description, file.is_ome
    except Exception as error:  # tifffile lets whatever a damaged directory causes through
        raise FormatError(f"`{path}` is neither a whole TIFF nor a PNG nor a JPEG: {error}") from None
    return provenance.parse(provenance.ome_comment(text) if ome else text)
