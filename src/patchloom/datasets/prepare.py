"""From slides to a dataset store: plots, their pixels, and per view their latents and embedding grids.

Each plot's file appears whole, so a killed run goes on where it was. A slide that cannot be read is named in the
record and the others finish. Under torchrun each process takes its share of the slides.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from patchloom import records, weights
from patchloom.datasets.cutting import Models, PlotCells, PlotViews, cut
from patchloom.datasets.dataset import FORMAT, NAME, Broken, Dataset, DatasetRecord, Plot, check_splits, open_dataset
from patchloom.datasets.manifest import Entry
from patchloom.datasets.processes import Processes
from patchloom.datasets.stain import Recolouring
from patchloom.datasets.views import VIEWS
from patchloom.errors import InputError, MismatchError, MissingError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.cells import CellLattice, cell_lattice, valid_cells
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import Raster
from patchloom.rasters.rescaled import Rescaled

_SETTINGS = "preparation.json"


@dataclass(frozen=True, slots=True)
class Preparation:
    """How slides become plots."""

    pixel_size: str = "0.5um"
    patch_px: int = 256  # side of a cell
    stride_px: int = 128  # from one cell to the next
    plot_px: int = 2048  # longest side of a plot
    background: float = 0.1  # share of the plots without tissue that is kept; plots at a border are kept all
    min_valid: float = 0.25  # least valid share of a cell that is encoded
    views: tuple[int, ...] = tuple(range(VIEWS))
    recolouring: Recolouring | None = None  # of the mirrored views, a draw for each of a plot

    def __post_init__(self) -> None:
        PixelSize.parse(self.pixel_size)
        if not 0 < self.stride_px <= self.patch_px <= self.plot_px:
            raise InputError(
                f"stride {self.stride_px}, patch {self.patch_px} and plot {self.plot_px} px: "
                "a stride is at most a patch, a patch at most a plot"
            )
        if not 0 <= self.background <= 1:
            raise InputError(f"the share of background is between 0 and 1, not {self.background}")
        if self.recolouring is not None and max(self.views) < VIEWS // 2:
            raise InputError(
                f"mirrored views are recoloured, views {VIEWS // 2} to {VIEWS - 1}, but only {len(self.views)} views, "
                f"none of them mirrored, are asked for: ask for {VIEWS}"
            )


Advance = Callable[[Literal["slides", "plots"], int, int], None]
"""(of what, done, in all): this process's slides, and the plots of the slide that it is at."""

Note = Callable[[str], None]


def prepare(
    entries: list[Entry],
    folder: Path,
    preparation: Preparation,
    models: Models,
    progress: Advance = lambda what, done, total: None,
    *,
    device: torch.device,
    note: Note = lambda sentence: None,
) -> Dataset:
    """Make the dataset of `entries` in `folder`, or what is missing of it.

    `note` hears what slides leave open, such as a pixel size that follows from the objective alone.
    Raises MismatchError where the folder holds a dataset made in another way or a group is in `test` and in another
    split, CapacityError on a full disk; every other trouble with a slide is recorded and the next one taken.
    """
    check_splits(tuple(_plot(entry) for entry in entries))
    with Processes.joined(device) as processes:
        if processes.leads:
            _claim(folder, _settings(preparation, models))
        processes.wait()
        mine = entries[processes.rank :: processes.count]
        for done, entry in enumerate(mine):
            progress("slides", done, len(mine))
            _prepare_slide(entry, folder, preparation, models, progress, note)
        progress("slides", len(mine), len(mine))
        processes.wait()
        if processes.leads:
            record = _record(entries, folder, preparation, models)
            _write(folder / NAME, json.dumps(records.dump(record), indent=1) + "\n")
        processes.wait()
    return open_dataset(folder)


def _prepare_slide(
    entry: Entry, folder: Path, preparation: Preparation, models: Models, progress: Advance, note: Note
) -> None:
    """Every plot of a slide that is not there yet; a slide that cannot be read leaves word in `broken/`."""
    broken = folder / "broken" / f"{entry.key}.json"
    broken.unlink(missing_ok=True)
    try:
        with _opened(entry) as raster:
            for sentence in raster.doubts:
                note(sentence)
            slide = Rescaled(raster, PixelSize.parse(preparation.pixel_size))
            _prepare_plots(entry, slide, folder, preparation, models, progress)
    except (InputError, MissingError) as error:
        _write(broken, json.dumps(records.dump(Broken(entry.name, str(error)))) + "\n")


def _opened(entry: Entry) -> Raster:
    try:
        return open_raster(entry.path, entry.pixel_size)
    except OSError as error:  # of this slide; one that writing raises ends the run
        raise InputError(str(error)) from error


def _prepare_plots(
    entry: Entry, slide: Rescaled, folder: Path, preparation: Preparation, models: Models, progress: Advance
) -> None:
    lattice = cell_lattice(slide, preparation.patch_px, preparation.stride_px, None)
    shares = valid_cells(slide, lattice)
    valid = torch.from_numpy(shares >= preparation.min_valid)
    multiple = models.first_stage.factor if models.first_stage else 1
    boxes = list(plot_boxes(slide.frame.box, preparation.plot_px, multiple))
    for done, box in enumerate(boxes):
        progress("plots", done, len(boxes))
        tissue = _tissue(lattice, shares, box)
        name = f"{entry.key}-y{box.y}-x{box.x}"
        path = folder / "plots" / f"{name}.safetensors"
        if not (tissue > 0 or _drawn(name, preparation.background)) or _made(path, entry):
            continue
        views = PlotViews(name, preparation.views, preparation.recolouring)
        tensors = cut(slide, box, PlotCells.around(lattice, valid, box), views, models)
        plot = _plot(entry, name, (box.y, box.x, box.height, box.width), tissue)
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.write_tensors(tensors, path, {"plot": json.dumps(records.dump(plot))})
    progress("plots", len(boxes), len(boxes))


def plot_boxes(whole: Box, plot_px: int, multiple: int) -> Iterator[Box]:
    """A slide cut evenly into plots of at most `plot_px`, their sides multiples of `multiple` (the rest is dropped)."""
    for y, height in _even(whole.height, plot_px, multiple):
        for x, width in _even(whole.width, plot_px, multiple):
            yield Box(y, x, height, width)


def _even(length: int, longest: int, multiple: int) -> list[tuple[int, int]]:
    count = ceil(length / longest)
    side = length // count // multiple * multiple
    return [(i * side, side) for i in range(count)] if side else []


def _tissue(lattice: CellLattice, shares: NDArray[np.float64], box: Box) -> float:
    """The mean valid share of the cells whose centre lies in a box; 0 where none does."""
    inside = shares[
        _centres_in(lattice, lattice.y, lattice.rows, box.y, box.stop_y),
        _centres_in(lattice, lattice.x, lattice.cols, box.x, box.stop_x),
    ]
    return float(inside.mean()) if inside.size else 0.0


def _centres_in(lattice: CellLattice, corner: int, count: int, start: int, stop: int) -> slice:
    first = corner + lattice.cell_px / 2
    low, high = (ceil((edge - first) / lattice.stride_px) for edge in (start, stop))
    return slice(max(low, 0), max(min(high, count), 0))


def _drawn(name: str, share: float) -> bool:
    """A draw that falls the same way in every run."""
    return int(sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < share


def _made(path: Path, entry: Entry) -> Plot | None:
    """The plot in a whole file, if it was made at the pixel size that the entry states now; the rest may change."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    if "plot" not in metadata:
        return None
    plot = records.load(Plot, json.loads(metadata["plot"]), str(path))
    if plot.stated not in (None, _stated(entry)):
        return None
    return replace(plot, group=entry.group, split=entry.split, licence=entry.licence, label=entry.label)


def _record(entries: list[Entry], folder: Path, preparation: Preparation, models: Models) -> DatasetRecord:
    plots, broken = [], []
    for entry in entries:
        paths = sorted((folder / "plots").glob(f"{glob.escape(entry.key)}-y*.safetensors"))
        plots += [plot for path in paths if (plot := _made(path, entry))]
        note = folder / "broken" / f"{entry.key}.json"
        if note.exists():
            broken.append(records.read_json(Broken, note))
    return DatasetRecord(
        FORMAT,
        preparation.pixel_size,
        preparation.patch_px,
        preparation.stride_px,
        models.encoder.spec if models.encoder else None,
        models.first_stage.digest if models.first_stage else None,
        models.first_stage.factor if models.first_stage else None,
        preparation.views,
        tuple(plots),
        tuple(broken),
    )


def _settings(preparation: Preparation, models: Models) -> str:
    parts = {
        "preparation": _said(preparation),
        "encoder": records.dump(models.encoder.spec) if models.encoder else None,
        "autoencoder": models.first_stage.digest if models.first_stage else None,
    }
    return json.dumps(parts, indent=2, sort_keys=True) + "\n"


def _said(preparation: Preparation) -> dict[str, object]:
    """A preparation without what it leaves out, as versions that did not know of it wrote it."""
    dumped = records.dump(preparation)
    return {name: value for name, value in dumped.items() if value is not None}


def _claim(folder: Path, settings: str) -> None:
    """Note how the dataset is made; refuse to go on with one that was made differently."""
    path = folder / _SETTINGS
    if path.exists() and path.read_text(encoding="utf-8") != settings:
        raise MismatchError(
            f"`{folder}` holds a dataset prepared with other settings, encoder or autoencoder (see `{path}`); "
            "name another folder, or delete this one"
        )
    _write(path, settings)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _plot(entry: Entry, name: str = "", box: tuple[int, int, int, int] = (0, 0, 0, 0), tissue: float = 0.0) -> Plot:
    return Plot(name, entry.name, entry.group, entry.split, entry.licence, entry.label, box, tissue, _stated(entry))


def _stated(entry: Entry) -> str:
    return str(entry.pixel_size or "")
