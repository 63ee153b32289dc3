"""An edit: an earlier image, kept as latents, of which a region is made anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchloom import weights
from patchloom.errors import GeometryError, MismatchError, MissingError
from patchloom.geometry import Box, Frame
from patchloom.loom.keep import Kept
from patchloom.loom.latents import SUFFIX, Latents, read_latents


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """Earlier latents, the digest of their file, and the region in pixels that is made anew."""

    latents: Latents
    digest: str
    region: Box

    @property
    def provenance(self) -> dict[str, Any]:
        """What the new image says about it."""
        region = self.region
        xywh = [region.x, region.y, region.width, region.height]
        return {"latents": self.digest, "region_xywh": xywh, "of": dict(self.latents.manifest)}

    def kept(self, canvas: Frame, factor: int, pipeline: str) -> Kept:
        """What a run of the pipeline with that digest keeps.

        Raises MismatchError for latents of another pipeline or extent, GeometryError for a region outside the canvas
        or of broken latents.
        """
        own = (self.latents.manifest.get("pipeline") or {}).get("digest")
        if own != pipeline:
            raise MismatchError(
                f"the image to keep was made by a pipeline of weights {str(own)[:19]}, this one has {pipeline[:19]}: "
                "their latents mean different things; edit it with the pipeline that made it"
            )
        found = self.latents.frame
        if (found.height, found.width, found.channels) != (canvas.height, canvas.width, canvas.channels):
            raise MismatchError(
                f"the image to keep is {found.width * factor} x {found.height * factor} px (width x height), the "
                f"grid's canvas {canvas.width * factor} x {canvas.height * factor}; give a grid of the same extent"
            )
        check_inside(self.region, canvas.box.times(factor))
        whole = _on_latents(self.region, factor)
        if whole != self.region:
            raise GeometryError(
                f"the region X,Y,WIDTH,HEIGHT = {_xywh(self.region)} cuts latents, which are {factor} px a side and "
                f"made anew as a whole; the region around it that does not is {_xywh(whole)}"
            )
        return Kept(self.latents, self.region.over(factor))


def open_edit(path: Path, region: Box) -> Edit:
    """An edit of an image whose latents lie beside it, or of a file of latents. Raises MissingError or FormatError."""
    beside = latents_beside(path)
    if not path.is_file() and not beside.is_file():
        raise MissingError(f"there is no file `{path}` to keep")
    file = beside if beside.is_file() else path
    if path.suffix != SUFFIX and file == path:
        raise MissingError(
            f"`{path}` has no latents beside it (`{beside.name}`), and pixels alone cannot be kept; "
            "make it with `patchloom generate --save-latents` to edit it later"
        )
    return Edit(read_latents(file), weights.digest(file), region)


def check_inside(region: Box, image: Box) -> None:
    """Raise GeometryError for a region, in pixels, that is empty or leaves the image."""
    if region.area == 0 or not image.contains(region):
        raise GeometryError(
            f"the region X,Y,WIDTH,HEIGHT = {_xywh(region)} does not lie inside the image of {image.width} x "
            f"{image.height} px (width x height)"
        )


def _on_latents(region: Box, factor: int) -> Box:
    """The least region of whole latents around one, in pixels."""
    top, left = region.y // factor, region.x // factor
    bottom, right = -(-region.stop_y // factor), -(-region.stop_x // factor)
    return Box(top, left, bottom - top, right - left).times(factor)


def _xywh(box: Box) -> str:
    return f"{box.x},{box.y},{box.width},{box.height}"


def latents_beside(path: Path) -> Path:
    """Where the latents of an image are kept."""
    return path.with_name(path.name + SUFFIX)
