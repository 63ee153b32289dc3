"""What a picture says about how it was made: one block of JSON, in whichever text slot its format has.

The block holds what the caller gives, the software's name and version and, where they are known, the pixel
size and the georeference. It holds no clock and no random id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from patchloom import __version__
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

KEY = "patchloom"  # the keyword of the PNG chunk
OME_NAMESPACE = "patchloom/provenance"  # of the OME annotation
_SOFTWARE = "patchloom"
_OURS = ("software", "pixel_size_m", "crs", "transform")


class Georeferenced(Protocol):
    """A place on Earth: a coordinate reference system and the affine transform of pixels into it."""

    @property
    def crs(self) -> str:
        """WKT; empty where the system is not known."""
        ...

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """(a, b, c, d, e, f): x = a col + b row + c, y = d col + e row + f, of a pixel's corner."""
        ...


def software() -> str:
    """The name and version that every output carries."""
    return f"{_SOFTWARE} {__version__}"


def stamp(given: Mapping[str, object] | None, pixel_size: PixelSize | None, geo: Georeferenced | None) -> str:
    """The provenance block as one line of ASCII JSON.

    Raises InputError where `given` holds a key that is written here, or a value that JSON cannot hold.
    """
    given = dict(given or {})
    taken = [key for key in _OURS if key in given]
    if taken:
        raise InputError(f"provenance must not hold {', '.join(f'`{key}`' for key in taken)}: the writer fills them in")
    block: dict[str, object] = {"software": software()}
    if pixel_size is not None:
        block["pixel_size_m"] = pixel_size.metres
    if geo is not None:
        block |= {"crs": geo.crs, "transform": list(geo.transform)}
    try:
        return json.dumps(block | given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"provenance cannot be written as JSON: {error}") from None


def parse(text: str | None) -> dict[str, Any] | None:
    """The block that `stamp` wrote, or None for any other text."""
    if not text or not text.lstrip().startswith("{"):
        return None
    try:
        block = json.loads(text)
    except (ValueError, RecursionError):
        return None
    ours = isinstance(block, dict) and str(block.get("software", "")).split(" ")[0] == _SOFTWARE
    return block if ours else None


def pixel_size_of(block: Mapping[str, Any] | None) -> PixelSize | None:
    """The pixel size that a block of ours states."""
    metres = block.get("pixel_size_m") if block else None
    return PixelSize(float(metres)) if isinstance(metres, (int, float)) and metres > 0 else None


def ome_comment(xml: str) -> str | None:
    """The text of our annotation in an OME-XML description."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    comments = (node for node in root.iter() if node.tag.endswith("}CommentAnnotation"))
    values = (child.text for node in comments if node.get("Namespace") == OME_NAMESPACE for child in node)
    return next((text for text in values if text), None)
