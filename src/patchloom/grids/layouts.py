"""What the field's feature files say of their patches, layout by layout.

    layout   datasets            corner (x, y) in    patch
    CLAM     features, coords    level-0 pixels      patch_size, patch_level, downsample; often no attribute at all
    TRIDENT  features, coords    level-0 pixels      patch_size, patch_size_level0, overlap
    STAMP    feats, coords       micrometres         tile_size_um, tile_size_px; before version 2, units of 256/224 um

None but STAMP says how long a pixel is: TRIDENT's magnifications are rounded classes, not lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from patchloom.errors import FormatError, InputError
from patchloom.geometry import PixelSize
from patchloom.grids.hdf5 import Attribute, FeatureFacts, FeatureFile
from patchloom.grids.reference import Reference
from patchloom.grids.spec import EncoderSpec

Layout = Literal["clam", "trident", "stamp"]

Told: TypeAlias = FeatureFile | FeatureFacts
"""A whole file, or its header: the attributes are the same."""

UNKNOWN = "unknown"
_UM = 1e-6
_OLD_STAMP = 256 / 224 * _UM  # before version 2 a unit was a pixel of a tile of 224 px over 256 um
_OLD_STAMP_PX = 224
_SQUARE = 0.01  # pixels whose sides differ by more are not square


@dataclass(frozen=True, slots=True)
class Patches:
    """How a file's patches are counted."""

    layout: Layout
    unit_m: float  # length of a unit of the coordinates
    side: float  # of a patch, in those units
    side_px: int  # of a patch, in pixels as the encoder's transform received them
    stride_px: int | None = None  # from one patch to the next, in those pixels, where the file says

    @property
    def scale(self) -> float:
        """Units in a pixel of the patch."""
        return self.side / self.side_px

    @property
    def stride(self) -> float | None:
        """The stride in units, where the file says."""
        return None if self.stride_px is None else self.stride_px * self.scale


def describe(file: FeatureFacts) -> dict[str, Any]:
    """What a feature file's header says, as plain values; None where it does not."""
    layout = layout_of(file)
    stamp = _stamp(file) if layout == "stamp" else None
    attributes = file.attributes
    size = stamp.unit_m * stamp.scale if stamp else None
    return {
        "kind": "features",
        "layout": layout,
        "patches": file.shape[0],
        "dim": file.shape[1],
        "dtype": file.dtype,
        "patch_px": stamp.side_px if stamp else attributes.get("patch_size"),
        "patch_level0_px": attributes.get("patch_size_level0"),
        "overlap_px": attributes.get("overlap"),
        "pixel_size_m": size,
        "encoder": attributes.get("extractor"),
        "slide": attributes.get("name"),
    }


def layout_of(file: Told) -> Layout:
    """Whose layout a file has."""
    if file.name == "feats":
        return "stamp"
    return "trident" if "patch_size_level0" in file.attributes else "clam"


def patches_of(file: Told, pixel_size: PixelSize | None, patch_px: int | None) -> Patches:
    """Which layout a file has, and how its patches are counted. Raises InputError for what must be told."""
    layout = layout_of(file)
    if layout == "stamp":
        return _stamp(file)
    if pixel_size is None:
        raise InputError(
            "CLAM and TRIDENT files do not record the slide's pixel size; say that of its level 0, such as "
            "--slide-pixel-size 0.2527um (in Python: pixel_size=PixelSize.parse('0.2527um'))"
        )
    return _trident(file, pixel_size) if layout == "trident" else _clam(file, pixel_size, patch_px)


def _trident(file: Told, pixel_size: PixelSize) -> Patches:
    side_px, stride_px = _whole(_number(file, "patch_size"), "patch_size"), None
    if "overlap" in file.attributes:
        stride_px = side_px - _whole(_real(file, "overlap"), "overlap")
        if stride_px <= 0:
            raise FormatError(f"patches of {side_px} px cannot overlap by {file.attributes['overlap']} px")
    return Patches("trident", pixel_size.metres, _number(file, "patch_size_level0"), side_px, stride_px)


def _clam(file: Told, pixel_size: PixelSize, patch_px: int | None) -> Patches:
    if "patch_size" not in file.attributes:
        if patch_px is None:
            raise InputError(
                "this CLAM file does not say how large a patch is; say it in level-0 pixels, such as --grid-patch 256 "
                "(in Python: patch_px=256)"
            )
        return Patches("clam", pixel_size.metres, float(patch_px), patch_px)
    side_px = _number(file, "patch_size")
    down = _number(file, "downsample") if "downsample" in file.attributes else 1.0
    if _scalar(file, "patch_level", 0) != 0 and "downsample" not in file.attributes:
        raise InputError(
            f"patches were cut from level {file.attributes['patch_level']}, and the file does not say how much smaller "
            "that is than level 0; write the file again with CLAM's `downsample` attribute"
        )
    if "custom_downsample" in file.attributes:
        down *= _number(file, "custom_downsample")
    return Patches("clam", pixel_size.metres, side_px * down, _whole(side_px, "patch_size"))


def _stamp(file: Told) -> Patches:
    kind = file.attributes.get("feat_type", "tile")
    if kind != "tile":
        raise FormatError(f"it holds features of a whole {kind}, not of tiles")
    size_um = "tile_size_um" if "tile_size_um" in file.attributes else "tile_size"
    if size_um in file.attributes and (size_um == "tile_size_um" or file.attributes.get("unit") == "um"):
        side = _number(file, size_um)
        if "tile_size_px" not in file.attributes:
            raise FormatError("it does not record `tile_size_px`; extract the features again with STAMP 2.1 or newer")
        return Patches("stamp", _UM, side, _whole(_number(file, "tile_size_px"), "tile_size_px"))
    return Patches("stamp", _OLD_STAMP, _OLD_STAMP_PX, _OLD_STAMP_PX, _OLD_STAMP_PX)


def unknown_encoder(file: FeatureFile, input_px: int) -> EncoderSpec:
    """What is known of an encoder from a file alone: STAMP's name for it, and the length of its embeddings."""
    name = file.attributes.get("extractor", UNKNOWN)
    return EncoderSpec(str(name), file.features.shape[1], input_px, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), UNKNOWN, UNKNOWN)


def recorded_reference(file: Told, name: str, pixel_size: PixelSize | None) -> Reference | None:
    """The slide, where the file records its level-0 extent, as newer TRIDENT does."""
    height, width = (_scalar(file, key, 0) for key in ("level0_height", "level0_width"))
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        return None
    return Reference(str(file.attributes.get("name", name)), height, width, pixel_size)


def _scalar(file: Told, name: str, default: Attribute | None = None) -> Attribute:
    """An attribute; of a list of equal numbers (CLAM's downsample is one an axis) the number."""
    value = file.attributes.get(name, default)
    if value is None:
        raise FormatError(f"the attribute `{name}` is missing")
    if isinstance(value, list):
        if max(value) > min(value) * (1 + _SQUARE):
            raise FormatError(f"`{name}` is {value}: pixels that are not square cannot be placed on a square lattice")
        return value[0]
    return value


def _real(file: Told, name: str) -> float:
    value = _scalar(file, name)
    if isinstance(value, str | list):
        raise FormatError(f"the attribute `{name}` is {value!r}, expected a number")
    return float(value)


def _number(file: Told, name: str) -> float:
    value = _real(file, name)
    if value <= 0:
        raise FormatError(f"the attribute `{name}` is {value:g}, expected a positive number")
    return value


def _whole(value: float, name: str) -> int:
    if value != round(value):
        raise FormatError(f"the attribute `{name}` is {value:g}, expected a whole number")
    return int(value)
