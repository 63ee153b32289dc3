"""What a worker process needs to help with an image: the pipeline loaded anew, on its own device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from patchloom.errors import InputError, MismatchError
from patchloom.fields.weave import Crew, Work
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.cluster import Cluster
from patchloom.loom.decode import BATCH, KEY, Decode
from patchloom.loom.memory import Sparing
from patchloom.loom.run import works
from patchloom.loom.workers import Workers
from patchloom.pipelines.autoguidance import load_guided
from patchloom.pipelines.edit import Edit, open_edit
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Recipe:
    """A worker's number to the works of an image; pickled, so it names the pipeline and the image to edit by path."""

    name: str | Path
    identity: dict[str, Any]
    grid: EmbeddingGrid
    settings: Settings
    device: torch.device
    dtype: torch.dtype
    keep: tuple[Path, Box] | None = None
    autoguide: str | Path | None = None

    def __call__(self, number: int) -> Mapping[str, Work]:
        """Load the pipeline on this worker's device. Raises MismatchError where it is no longer the same."""
        pipeline = load_guided(self.name, self.autoguide, device_of(self.device, number), self.dtype)
        if pipeline.identity != self.identity:
            raise MismatchError(f"pipeline `{self.name}` changed while its image was made; run the same command again")
        edit: Edit | None = open_edit(*self.keep) if self.keep is not None else None
        run = plan_run(pipeline, self.grid, self.settings, edit)
        return {**works(run), KEY: Decode(pipeline.autoencoder, BATCH, pipeline.device)}


@contextmanager
def hire(
    count: int | None,
    name: str | Path,
    request: Request,
    *,
    keep: tuple[Path, Box] | None = None,
    autoguide: str | Path | None = None,
    cluster: str | None = None,
) -> Iterator[Crew]:
    """A crew for `generate`: `count` processes with an equal share of the CPU, or a GPU each in turn; None is nobody.

    `name` is what the request's pipeline was loaded by, `autoguide` what the one that guides it was, `keep` the image
    to edit and its region. `cluster` is the address of a dask scheduler whose workers are the crew instead. Raises
    InputError where both are asked for, and what `Cluster` raises.
    """
    if count is None and cluster is None:
        yield Sparing()
        return
    own = request.pipeline
    recipe = Recipe(name, own.identity, request.grid, request.settings, own.device, own.dtype, keep, autoguide)
    if count is not None and cluster is not None:
        raise InputError("workers are either processes of this machine or those of a cluster: give one of the two")
    with Cluster(cluster, recipe) if cluster is not None else Workers(count or 1, recipe) as crew:
        yield crew


def device_of(device: torch.device, number: int) -> torch.device:
    """The device of a worker: its own GPU where there are several and none was named."""
    if device.type != "cuda" or device.index is not None or not torch.cuda.device_count():
        return device
    return torch.device("cuda", number % torch.cuda.device_count())
