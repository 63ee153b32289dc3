"""An image that is asked for: of which pipeline and grid, how, which part of it; and what follows before it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch

from patchloom import weights
from patchloom.errors import InputError
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.decode import Tiling
from patchloom.loom.figures import Figures
from patchloom.loom.forecast import Forecast, forecast
from patchloom.loom.run import Run, figures
from patchloom.pipelines.decoding import needed, tiling_of
from patchloom.pipelines.edit import Edit, check_inside
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings, sized
from patchloom.rasters.georeference import GeoReference


@dataclass(frozen=True, eq=False)
class Request:
    """The image that a pipeline makes of a grid by some settings, or a part of it.

    With `only`, a box of its pixels, equal to the crop of the whole image, and the rest is not made; with `edit`, an
    earlier image of which a region is made anew. What follows is worked out when it is first read, and that raises
    what `plan_run` does, GeometryError for a region outside the image, InputError for both an edit and a part.
    """

    pipeline: Pipeline
    grid: EmbeddingGrid
    settings: Settings = field(default_factory=Settings)
    only: Box | None = None
    edit: Edit | None = None

    @cached_property
    def run(self) -> Run[Any]:
        """Everything that decides the image."""
        return plan_run(self.pipeline, self.grid, self.settings, self.edit)

    @cached_property
    def part(self) -> Box | None:
        """The latents that are made, where that is not the whole canvas."""
        if self.only is None:
            return None if self.edit is None else self.edit.region.over(self.pipeline.record.factor)
        if self.edit is not None:
            raise InputError("an edit gives the whole image back: choose either a region to make alone, or one to edit")
        check_inside(self.only, Box(0, 0, *self.whole_px))
        return needed(self.pipeline, self.settings, self.run.shape, self.only)

    @cached_property
    def tiling(self) -> Tiling:
        """How the canvas is decoded, how often, and what of it is always read."""
        return tiling_of(self.pipeline, self.settings, self.run.shape)

    @cached_property
    def figures(self) -> Figures:
        """What the latents cost, or those of a part with what its decoder measures beside it."""
        beside = () if self.run.kept is not None else self.tiling.always
        return figures(self.run, self.pipeline.record.factor, self.part, beside)

    @property
    def whole_px(self) -> tuple[int, int]:
        """Height and width of the whole image in pixels."""
        height, width = self.run.shape
        return height * self.pipeline.record.factor, width * self.pipeline.record.factor

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width in pixels of what is made."""
        return self.whole_px if self.only is None else self.only.shape

    def forecast(self) -> Forecast:
        """How long it will take and how much memory, from a batch of each kind."""
        return forecast(self.run, self.pipeline.autoencoder, self.part, tiling=self.tiling)

    def provenance(self, portion: int | None = None) -> dict[str, Any]:
        """Where the image comes from: enough to make it again. No clock, no name of a machine.

        `portion` is how many windows of a batch went through the network at once after memory ran out.
        """
        pipeline, grid, only, coarse = self.pipeline, self.grid, self.only, self.settings.coarse
        parts: dict[str, Any] = {}
        if only is not None:
            xywh = [only.x, only.y, only.width, only.height]
            parts = {"only_xywh": xywh, "of_px": list(self.whole_px)}
        return {
            "synthetic": True,
            "pipeline": pipeline.identity,
            "grid": {
                "digest": grid.digest(),
                "encoder": grid.encoder.name,
                "reference": grid.reference.name if grid.reference else None,
            },
            "settings": asdict(sized(pipeline, self.settings, self.run.shape))
            | {"coarse": None if coarse is None else weights.digest(coarse)},
            "device": pipeline.device.type,
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            **({"not_checked": list(pipeline.doubts)} if pipeline.doubts else {}),
            "torch": torch.__version__,
            "network_evaluations": self.figures.network_evaluations,
            **parts,
            **({} if self.edit is None else {"edit": self.edit.provenance}),
            **({} if portion is None else {"batch_portion": portion}),
        }

    @property
    def geo(self) -> GeoReference | None:
        """The CRS and transform of what is made, from those of the grid's reference."""
        reference, only = self.grid.reference, self.only
        if reference is None or reference.transform is None or reference.pixel_size is None:
            return None
        ratio = self.grid.pixel_size.ratio(reference.pixel_size)
        geo = GeoReference(reference.crs or "", reference.transform).rescaled(ratio)
        top, left = self.grid.origin
        x, y = geo.at(top + (only.y if only else 0), left + (only.x if only else 0))
        a, b, _, d, e, _ = geo.transform
        return GeoReference(geo.crs, (a, b, x, d, e, y))
