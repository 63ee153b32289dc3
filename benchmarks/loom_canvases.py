"""Square canvases of held-out sections: what each of several ways makes of the same grids from the same noise.

Shared by the benchmarks of the loom. What was made lies under a folder, one file a canvas and way, each with its times
and counts, so a benchmark that was stopped goes on where it was. A way to make a canvas is called an arm.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.encoders.embed import embed, encode
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.slide import MIN_VALID
from patchloom.evaluation.estimates import Absent, Estimate, Interval
from patchloom.evaluation.frechet import Axes, frechet, principal_axes
from patchloom.evaluation.intervals import centred
from patchloom.evaluation.kernel import kernel
from patchloom.evaluation.patches import lattice_boxes
from patchloom.evaluation.seams import Borders, seams
from patchloom.fields.field import ArrayField, Cropped, Field
from patchloom.geometry import Box, Lattice
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.blended import BlendedDecode
from patchloom.loom.decode import decode_field, tiles
from patchloom.loom.orders import weave_canvas
from patchloom.loom.plan import average
from patchloom.loom.run import figures
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings, lattices_of, settled
from patchloom.rasters.cells import cell_lattice, valid_cells
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.fidelity import fidelity
from patchloom.trials.seams import DECODE, EARLIER, LAST

CROP, SEED, REPEATS, LEVEL = 256, 0, 1000, 0.95
_TABLES = Path(__file__).parent.parent / "configs" / "he"
TRAINING, TEST = _TABLES / "training.csv", _TABLES / "test.csv"
_SPREAD = 12  # crops of a training section that choose the axes
JOINTS = "joints of the mosaic"
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Canvas:
    """A square of a section, at the pipeline's pixel size."""

    name: str
    entry: Entry
    box: Box

    def pixels(self, pipeline: Pipeline) -> Pixels:
        """The real section's, (3, h, w)."""
        with open_raster(self.entry.path, self.entry.pixel_size) as raster:
            pixels: Pixels = Rescaled(raster, pipeline.pixel_size).read(self.box)
        return pixels

    def grid(self, pipeline: Pipeline, encoder: Encoder) -> EmbeddingGrid:
        """Its embedding grid, as close as the pipeline was trained for."""
        condition = pipeline.record.condition
        with open_raster(self.entry.path, self.entry.pixel_size) as raster:
            slide = Rescaled(raster, pipeline.pixel_size)
            lattice = cell_lattice(slide, condition.cell_px, min(condition.strides_px), self.box)
            return embed(
                Cropped(slide, self.box),
                encoder,
                cell_px=lattice.cell_px,
                stride_px=lattice.stride_px,
                valid=valid_cells(slide, lattice) >= MIN_VALID,
                pixel_size=pipeline.pixel_size,
            )


def canvases(pipeline: Pipeline, table: Path, split: str, side: int, each: int = 1) -> list[Canvas]:
    """Of each section of a split that is large enough, the `each` squares of most tissue; no patient of training."""
    entries = read_manifest(table)
    trained = {entry.group for entry in entries if entry.split == "train"}
    found: list[Canvas] = []
    for entry in entries:
        if entry.split == split and entry.group not in trained:
            found += _squares(pipeline, entry, side, each)
    return found


def _squares(pipeline: Pipeline, entry: Entry, side: int, each: int) -> list[Canvas]:
    with open_raster(entry.path, entry.pixel_size) as raster:
        slide = Rescaled(raster, pipeline.pixel_size)
        if min(slide.frame.box.shape) < side:
            return []
        shares = valid_cells(slide, cell_lattice(slide, side, side))
    order = np.argsort(-shares, axis=None, kind="stable")[:each]
    places = [divmod(int(number), shares.shape[1]) for number in order]
    return [Canvas(f"{entry.key}-{row}-{col}", entry, Box(row * side, col * side, side, side)) for row, col in places]


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to make a canvas. The reference decodes as the paper's code does: a tile a window, blended under a bell."""

    name: str
    settings: Settings
    decode_windows: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A finished canvas: latents (channels, h, w), pixels (3, h, w), and what they took."""

    latents: NDArray[np.float32]
    pixels: Pixels
    facts: dict[str, Any]


def made(folder: Path, pipeline: Pipeline, grid: EmbeddingGrid, canvas: Canvas, arm: Arm) -> Made:
    """What lies in the folder already, or is made now."""
    path = place(folder, canvas, arm)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = make(pipeline, grid, arm)
        part = path.with_suffix(".part.npz")
        np.savez(part, latents=new.latents, pixels=new.pixels, facts=np.array(json.dumps(new.facts)))
        part.replace(path)
    return kept(path)


def place(folder: Path, canvas: Canvas, arm: Arm) -> Path:
    """Where what an arm makes of a canvas lies."""
    return folder / re.sub(r"\W+", "-", arm.name) / f"{canvas.name}.npz"


def kept(path: Path) -> Made:
    """A canvas that was made before."""
    with np.load(path) as file:
        return Made(file["latents"], file["pixels"], json.loads(str(file["facts"])))


def make(pipeline: Pipeline, grid: EmbeddingGrid, arm: Arm) -> Made:
    """Make a canvas, timed by the wall and by this process's CPU."""
    run = plan_run(pipeline, grid, arm.settings)
    clocks = [_clocks()]
    latents = weave_canvas(run)
    array = np.asarray(latents.read(latents.frame.box), np.float32)
    clocks.append(_clocks())
    pixels: Pixels = decoded(pipeline, array, arm).read(Box(0, 0, *grid.canvas))
    clocks.append(_clocks())
    cost = figures(run, pipeline.record.factor)
    (wall, cpu), (decode_wall, decode_cpu) = np.diff(clocks, axis=0)
    facts = {
        "evaluations": cost.network_evaluations,
        "per_block": cost.evaluations_per_block,
        "background_windows": cost.background_windows,
        "denoise_seconds": wall,
        "denoise_cpu_seconds": cpu,
        "decode_seconds": decode_wall,
        "decode_cpu_seconds": decode_cpu,
    }
    return Made(array, pixels, facts)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def decoded(pipeline: Pipeline, latents: NDArray[np.float32], arm: Arm) -> Field:
    """Pixels of finished latents, as the arm decodes."""
    field, decoder = ArrayField(latents), pipeline.autoencoder
    if not arm.decode_windows:
        return decode_field(field, decoder, device=pipeline.device, pixel_size=pipeline.pixel_size)
    chosen = settled(pipeline, arm.settings)
    return BlendedDecode(field, cast(FirstStage, Tiles(decoder)), chosen.window or 0, chosen.core or 0)


class Tiles:
    """Our decoder in the place of the paper's: float pixels of a tile, which are blended before they are rounded."""

    def __init__(self, decoder: Autoencoder) -> None:
        self.factor = decoder.factor
        self._decoder = cast(ConvolutionalAutoencoder, decoder)

    def parameters(self) -> Iterator[Parameter]:
        """The decoder's: where it is, and in which precision."""
        return self._decoder.parameters()

    def pixels(self, latents: Tensor) -> Tensor:
        """(1, 3, h, w), about [-1, 1]."""
        return self._decoder.pixels(latents.to(next(self.parameters()).dtype))


def decode_lattice(pipeline: Pipeline, shape: tuple[int, ...], arm: Arm) -> Lattice:
    """How an arm cuts a canvas (height, width) of latents for decoding."""
    height, width = shape
    if not arm.decode_windows:
        return tiles((height, width), pipeline.autoencoder.receptive_field)
    chosen = settled(pipeline, arm.settings)
    return average((height, width), chosen.window or 0, chosen.core or 0)


def crops_of(pictures: Iterable[Pixels], encoder: Encoder) -> NDArray[np.float32]:
    """Features (canvases, crops, dim) of the crops of 256 px that lie side by side in each picture."""
    found = []
    for picture in pictures:
        boxes = lattice_boxes(Box(0, 0, *picture.shape[1:]), CROP)
        found.append(
            encode(encoder, np.stack([picture[:, *box.inside(Box(0, 0, *picture.shape[1:]))] for box in boxes]))
        )
    return np.stack(found)


def training_axes(table: Path, pipeline: Pipeline, encoder: Encoder, k: int, folder: Path) -> Axes:
    """The first principal axes of crops of the training sections, some of each, evenly spread; kept in the folder."""
    keep = folder / "training.npy"
    if not keep.is_file():
        rows = []
        for entry in read_manifest(table):
            if entry.split == "train":
                with open_raster(entry.path, entry.pixel_size) as raster:
                    slide = Rescaled(raster, pipeline.pixel_size)
                    boxes = lattice_boxes(slide.frame.box, CROP)
                    some = boxes[:: max(len(boxes) // _SPREAD, 1)]
                    rows.append(encode(encoder, np.stack([slide.read(box) for box in some])))
        np.save(keep, np.concatenate(rows))
    return principal_axes(np.load(keep), k)


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """Kernel and Fréchet distance of sets of crops to the real ones, with canvases as the units of resampling."""

    real: NDArray[np.float32]  # (canvases, crops, dim)
    axes: Axes

    @property
    def n(self) -> int:
        """Crops of a side."""
        return int(np.prod(self.real.shape[:2]))

    def kernel(self, arm: NDArray[np.float32]) -> float:
        """Unbiased kernel distance of all crops."""
        return kernel(_flat(self.real), _flat(arm))

    def frechet(self, arm: NDArray[np.float32]) -> float:
        """Fréchet distance along the axes."""
        return frechet(self.axes.project(_flat(self.real)), self.axes.project(_flat(arm)))

    def kernel_difference(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> Interval:
        """Of `one` less that of `other`, where canvases are drawn anew on all three sides at once.

        As in `kernel_distance`, pairs of one row with itself are left out however often it is drawn.
        """
        draws = [_weighted(self.real, one), _weighted(self.real, other)]
        counts = _counts(len(self.real), self.real.shape[1])
        values = [draws[0](count) - draws[1](count) for count in counts]
        return centred(self.kernel(one) - self.kernel(other), values, LEVEL, _words(len(self.real)))

    def frechet_difference(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> Interval:
        """The same of the Fréchet distance; its bias is that of N on both sides, and cancels for the most part."""
        real, one_rows, other_rows = (self.axes.project(_flat(side)) for side in (self.real, one, other))
        values = []
        for count in _counts(len(self.real), self.real.shape[1]):
            rows = np.repeat(np.arange(len(real)), count.astype(int))
            values.append(frechet(real[rows], one_rows[rows]) - frechet(real[rows], other_rows[rows]))
        return centred(self.frechet(one) - self.frechet(other), values, LEVEL, _words(len(self.real)))


def _words(n: int) -> str:
    return f"bootstrap, {REPEATS} resamples of {n} canvases"


def _flat(features: NDArray[np.float32]) -> NDArray[np.float64]:
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


def _counts(n: int, crops: int) -> list[NDArray[np.float64]]:
    """How often each crop is drawn, whole canvases at a time."""
    rng = np.random.default_rng(SEED)
    drawn = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(REPEATS))
    return [np.repeat(one, crops).astype(np.float64) for one in drawn]


def _weighted(real: NDArray[np.float32], arm: NDArray[np.float32]) -> Any:
    first, second = _flat(real), _flat(arm)
    one, two, across = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((first, first), (second, second), (first, second)))
    np.fill_diagonal(one, 0)
    np.fill_diagonal(two, 0)

    def value(count: NDArray[np.float64]) -> float:
        pairs = max(count.sum() ** 2 - (count**2).sum(), 1.0)
        return float(count @ (one + two) @ count / pairs - 2 * count @ across @ count / count.sum() ** 2)

    return value


def mosaic(pictures: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], Borders]:
    """Pictures of one size as one, nearly square, and the lines where they meet."""
    across = next(n for n in range(int(len(pictures) ** 0.5), 0, -1) if len(pictures) % n == 0)
    height, width = pictures[0].shape[1:]
    bands = [np.concatenate(pictures[k : k + across], axis=2) for k in range(0, len(pictures), across)]
    whole = np.concatenate(bands, axis=1)
    rows, cols = range(height, whole.shape[1], height), range(width, whole.shape[2], width)
    return whole, Borders(frozenset(rows), frozenset(cols))


def seam_figures(pipeline: Pipeline, pictures: Sequence[NDArray[Any]], arm: Arm) -> dict[str, Estimate | Absent]:
    """The seam meter over many canvases of one size at once, latents (factor 1) or pixels, each kind of line apart."""
    height, width = pictures[0].shape[1:]
    is_pixels = pictures[0].dtype == np.uint8
    factor = pipeline.record.factor if is_pixels else 1
    kinds = kinds_of(pipeline, (height // factor, width // factor), arm, is_pixels)
    whole, joints = mosaic(pictures)
    repeated = {
        kind: _repeated(lines.times(factor), (height, width), whole.shape[1:]).without(joints)
        for kind, lines in kinds.items()
    }
    found = seams(ArrayField(whole), repeated | {JOINTS: joints}, factor, repeats=REPEATS)
    return {kind: found[kind] for kind in kinds}


def kinds_of(pipeline: Pipeline, shape: tuple[int, int], arm: Arm, is_pixels: bool) -> dict[str, Borders]:
    """Kinds of line on one canvas, in latents; a line of two kinds counts as the first. Tiles show in pixels alone."""
    *earlier, last = (Borders.of(lattice) for lattice in lattices_of(pipeline, arm.settings, shape))
    before = Borders(
        frozenset().union(*(one.rows for one in earlier)), frozenset().union(*(one.cols for one in earlier))
    )
    kinds = {LAST: last, EARLIER: before.without(last)}
    if is_pixels and not arm.decode_windows:
        cut = Borders.of(tiles(shape, pipeline.autoencoder.receptive_field))
        kinds[DECODE] = cut.without(last).without(before)
    return kinds


def _repeated(borders: Borders, size: tuple[int, int], whole: tuple[int, ...]) -> Borders:
    rows = frozenset(y + top for y in borders.rows for top in range(0, whole[0], size[0]))
    cols = frozenset(x + left for x in borders.cols for left in range(0, whole[1], size[1]))
    return Borders(rows, cols)


def similarity_of(pipeline: Pipeline, grid: EmbeddingGrid, pixels: Pixels, encoder: Encoder) -> dict[str, float]:
    """How far a canvas follows its grid: cosine of same cells, of shuffled ones, and retrieval."""
    found = fidelity(pipeline, grid, ArrayField(pixels), encoder=encoder)
    return {"similarity": found.raw.value.value, "floor": found.raw.floor, "auc": found.retrieval_auc.value}


def judge(device: str = "cpu") -> Encoder:
    """The network that distances are measured with."""
    return load_encoder("efficientnet-lite0", device)


def said(found: Estimate | Absent) -> str:
    """A figure and its interval in words."""
    if isinstance(found, Absent):
        return "-"
    ends = found.interval
    return f"{found.value:.3f}" if ends is None else f"{found.value:.3f} ({ends.low:.3f} to {ends.high:.3f})"


def random_grid(pipeline: Pipeline, side: int, stride: int | None = None) -> EmbeddingGrid:
    """A grid of random embeddings over a square canvas: for times and memory, which do not depend on what it says."""
    condition, encoder = pipeline.record.condition, pipeline.record.encoder
    step = stride or condition.cell_px
    cells = (side - condition.cell_px) // step + 1
    values = np.random.default_rng(SEED).standard_normal((cells, cells, encoder.dim), np.float32).astype(np.float16)
    valid = np.ones((cells, cells), bool)
    return EmbeddingGrid(values, valid, condition.cell_px, step, (0.0, 0.0), (side, side), pipeline.pixel_size, encoder)
