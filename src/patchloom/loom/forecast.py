"""What a run will take, from evaluating one batch of each kind: seconds and memory. Counts are in `figures`."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.diffusion.condition import Condition
from patchloom.fields.weave import Work
from patchloom.geometry import Box, Lattice, Window
from patchloom.loom.decode import BATCH, KEY, Decode, Tiling, tiles
from patchloom.loom.figures import cone
from patchloom.loom.memory import Sparing
from patchloom.loom.run import Run, works
from patchloom.machine import resident_bytes

C = TypeVar("C", bound=Condition)
_WRITER_ROWS = 512 * 4  # rows of pixels that a pyramid holds: less than two bands of tiles a level, halved each time


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of denoising and decoding in this process, alone on the machine; writing the picture comes on top."""

    seconds: float
    peak_memory_bytes: int  # of the process; on a GPU, of the GPU
    portion: int | None  # windows at once, where a whole batch did not fit


def forecast(
    run: Run[C],
    autoencoder: Autoencoder,
    region: Box | None = None,
    *,
    tiling: Tiling | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Forecast:
    """Evaluate a batch of each kind of window twice, and a batch of tiles, and count the rest.

    A kind is a window's shape and what its meeting asks of the denoiser. `region` is the part of the latents that is
    made, `tiling` how it is decoded. Raises CapacityError where not even one window fits.
    """
    crew = Sparing()
    box = region or run.latents.box
    tiling = tiling or Tiling(tiles(run.shape, autoencoder.receptive_field, wrap=run.plan.wrap))
    seconds: dict[tuple[Any, ...], float] = {}
    total = 0.0
    needed = cone(run.lattices, box, *(() if run.kept is not None else tiling.always))
    for (key, work), windows, stages in zip(works(run).items(), needed, run.meetings, strict=True):
        asked = [window for window in windows if not work.idle(window)]
        if not asked:
            continue
        costs = [(run.evaluations(stage.sigma), run.gradients(stage.sigma)) for stage in stages]
        kind = (asked[0].box.shape, work.planes, *costs)
        if kind not in seconds:
            shape = (run.batch, work.planes * run.latents.channels, *asked[0].box.shape)
            seconds[kind] = _seconds(crew, key, work, asked[:1] * run.batch, shape, clock)
        total += seconds[kind] * ceil(len(asked) / run.batch)
    lattice = tiling.lattice
    decode = Decode(autoencoder, BATCH, run.device)
    first = lattice.window(0)
    shape = (BATCH, run.latents.channels, *first.box.shape)
    one = _seconds(crew, KEY, decode, [first] * BATCH, shape, clock)
    total += one * ceil(len(lattice.meeting(box)) / BATCH) * tiling.passes
    return Forecast(total, peak_memory(run.device) + _held(run, lattice, autoencoder.factor), crew.portion)


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held so far; on a GPU, that torch has held there."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resident_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _seconds(
    crew: Sparing,
    key: str,
    work: Work,
    windows: Iterable[Window],
    shape: tuple[int, ...],
    clock: Callable[[], float],
) -> float:
    some = list(windows)
    arrays: NDArray[np.float32] = np.random.default_rng(0).standard_normal(shape, np.float32)
    crew.answer(key, work, some, arrays)  # the first call finds kernels and grows pools
    started = clock()
    crew.answer(key, work, some, arrays)
    return clock() - started


def _held(run: Run[C], lattice: Lattice, factor: int) -> int:
    """Pixels on the way to the file, of a run whose states lie on disk: two rows of tiles, and the pyramid's bands."""
    if run.device.type == "cuda":
        return 0
    longest = max(span.core_stop - span.core_start for span in lattice.rows) * factor
    return 3 * run.latents.width * factor * (2 * longest + _WRITER_ROWS)
