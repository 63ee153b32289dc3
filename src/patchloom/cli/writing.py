"""The options of `patchloom generate` that belong together: how the image is written, and who shares the work."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from patchloom.cli import options
from patchloom.geometry import Box

if TYPE_CHECKING:  # torch
    from patchloom.fields.weave import Crew
    from patchloom.pipelines.request import Request


@dataclass(frozen=True, slots=True)
class Writing:
    """How an image is written; `generate_file` has the same names."""

    compression: Literal["jpeg", "deflate"] | None
    quality: int
    save_latents: bool
    work: Path | None


writing = options.gathered(
    Writing,
    "writing",
    click.option("--compression", type=click.Choice(["jpeg", "deflate"]), help="Of TIFF; deflate keeps every pixel."),
    click.option("--quality", type=options.Whole(1, 100), default=90, show_default=True, help="Of JPEG."),
    click.option(
        "--save-latents", is_flag=True, help="Keep what a later --keep needs, as NAME.latents beside the output."
    ),
    click.option("--work", type=options.FILE, help="Folder for the state of the run; default: beside the output."),
)


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who shares the work."""

    workers: int | None
    cluster: str | None

    def hire(
        self, name: str, request: Request, keep: tuple[Path, Box] | None, autoguide: str | None
    ) -> AbstractContextManager[Crew]:
        """The crew, each of whom loads the pipeline by its name and opens the image to edit for itself."""
        from patchloom.pipelines.workers import hire

        return hire(self.workers, name, request, keep=keep, autoguide=autoguide, cluster=self.cluster)


sharing = options.gathered(
    Sharing,
    "sharing",
    click.option("--workers", type=options.Whole(1), help="Processes that share the work; default: this one alone."),
    click.option(
        "--cluster", metavar="ADDRESS", help="A dask scheduler whose workers share the work; extra `cluster`."
    ),
)
