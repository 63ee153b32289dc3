"""The transform that a Hugging Face model's preprocessor_config.json describes."""

from __future__ import annotations

from typing import Any

from patchloom.encoders.pixels import Filter, Transform
from patchloom.errors import FormatError

_FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_LARGE_PX = 384  # ConvNeXt's processor crops below it only
_RESCALE = 1 / 255


def transform_of(values: dict[str, Any], where: str) -> Transform:
    """Resize, centre crop, mean and deviation. Raises FormatError for a step that Patchloom does not know."""
    if not values.get("do_rescale", True) or abs(values.get("rescale_factor", _RESCALE) - _RESCALE) > 1e-6:
        raise FormatError(f"{where}: pixels are scaled by {values.get('rescale_factor')}, known is 1/255 only")
    resize, crop = _sizes(values, where)
    resample = values.get("resample", 2)
    if resample not in _FILTERS:
        raise FormatError(f"{where}: resample {resample!r} is not known; known are 2 (bilinear) and 3 (bicubic)")
    if not values.get("do_normalize", True):
        return Transform(resize, crop, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), _FILTERS[resample])
    mean, std = _triple(values, "image_mean", where), _triple(values, "image_std", where)
    return Transform(resize, crop, mean, std, _FILTERS[resample])


def _sizes(values: dict[str, Any], where: str) -> tuple[int, int]:
    size = _side(values.get("size"), "size", where)
    if values.get("do_center_crop"):
        return size, _side(values.get("crop_size"), "crop_size", where)
    share = values.get("crop_pct")
    if isinstance(share, int | float) and 0 < share < 1 and size < _LARGE_PX:
        return int(size / share), size
    return size, size


def _side(value: Any, name: str, where: str) -> int:
    """A side in pixels from `224`, `{height, width}` or `{shortest_edge}`."""
    if isinstance(value, dict):
        sides = {value[key] for key in ("height", "width", "shortest_edge") if key in value}
        value = sides.pop() if len(sides) == 1 else None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise FormatError(f"{where}: `{name}` does not give one side of a square in pixels")
    return value


def _triple(values: dict[str, Any], name: str, where: str) -> tuple[float, float, float]:
    found = values.get(name)
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(part, int | float) for part in found):
        raise FormatError(f"{where}: `{name}` is {found!r:.80}, expected three numbers")
    return float(found[0]), float(found[1]), float(found[2])
