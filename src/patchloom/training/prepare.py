"""From slides to a dataset store: plots, their pixels, and per view their latents and embedding grids.

Each plot's file appears whole, so a killed run goes on where it was. A slide that cannot be read is named in the
record and the others finish. Under torchrun each process takes its share of the slides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from patchloom import records, weights
from patchloom.errors import InputError, MismatchError, MissingError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.cells import CellLattice, cell_lattice, valid_cells
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.training.cutting import Models, PlotCells, cut
from patchloom.training.dataset import FORMAT, NAME, Broken, Dataset, DatasetRecord, Plot, check_splits, open_dataset
from patchloom.training.manifest import Entry
from patchloom.training.processes import Processes
from patchloom.training.views import VIEWS

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

    def __post_init__(self) -> None:
        PixelSize.parse(self.pixel_size)
        if not 0 < self.stride_px <= self.patch_px <= self.plot_px:
            raise InputError(
                f"stride {self.stride_px}, patch {self.patch_px} and plot {self.plot_px} px: "
                "a stride is at most a patch, a patch at most a plot"
            )
        if not 0 <= self.background <= 1:
            raise InputError(f"the share of background is between 0 and 1, not {self.background}")


Advance = Callable[[str, int, int], None]
"""(slide, slides done, slides in all)."""


def prepare(
    entries: list[Entry],
    folder: Path,
    preparation: Preparation,
    models: Models,
    progress: Advance = lambda slide, done, total: None,
    *,
    device: torch.device,
) -> Dataset:
    """Make the dataset of `entries` in `folder`, or what is missing of it.

    Raises MismatchError where the folder holds a dataset made in another way or a group is in `test` and in another
    split, CapacityError on a full disk; every other trouble with a slide is recorded and the next one taken.
    """
    check_splits(tuple(_stub(entry) for entry in entries))
    with Processes.joined(device) as processes:
        if processes.leads:
            _claim(folder, _settings(preparation, models))
        processes.wait()
        mine = entries[processes.rank :: processes.count]
        for done, entry in enumerate(mine):
            progress(entry.name, done, len(mine))
            _prepare_slide(entry, folder, preparation, models)
            progress(entry.name, done + 1, len(mine))
        processes.wait()
        if processes.leads:
            _write(folder / NAME, records.dump(_record(entries, folder, preparation, models)))
        processes.wait()
    return open_dataset(folder)


def _prepare_slide(entry: Entry, folder: Path, preparation: Preparation, models: Models) -> None:
    """Every plot of a slide that is not there yet; a slide that cannot be read leaves a note in `broken/`."""
    note = folder / "broken" / f"{entry.key}.json"
    note.unlink(missing_ok=True)
    try:
        with open_raster(entry.path, entry.pixel_size) as raster:
            slide = Rescaled(raster, PixelSize.parse(preparation.pixel_size))
            _prepare_plots(entry, slide, folder, preparation, models)
    except (InputError, MissingError) as error:
        _write(note, {"source": entry.name, "reason": str(error)})


def _prepare_plots(entry: Entry, slide: Rescaled, folder: Path, preparation: Preparation, models: Models) -> None:
    lattice = cell_lattice(slide, preparation.patch_px, preparation.stride_px, None)
    shares = valid_cells(slide, lattice)
    valid = torch.from_numpy(shares >= preparation.min_valid)
    multiple = models.first_stage.factor if models.first_stage else 1
    for box in plot_boxes(slide.frame.box, preparation.plot_px, multiple):
        tissue = _tissue(lattice, shares, box)
        name = f"{entry.key}-y{box.y}-x{box.x}"
        path = folder / "plots" / f"{name}.safetensors"
        if not (tissue > 0 or _drawn(name, preparation.background)) or _is_whole(path):
            continue
        tensors = cut(slide, box, PlotCells.around(lattice, valid, box), preparation.views, models)
        plot = Plot(
            name,
            entry.name,
            entry.group,
            entry.split,
            entry.licence,
            entry.label,
            (box.y, box.x, box.height, box.width),
            tissue,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.write_tensors(tensors, path, {"plot": json.dumps(records.dump(plot))})


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


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return bool(file.metadata())
    except (SafetensorError, OSError):
        return False


def _record(entries: list[Entry], folder: Path, preparation: Preparation, models: Models) -> DatasetRecord:
    keys = [entry.key for entry in entries]
    plots, broken = [], []
    for key in keys:
        for path in sorted((folder / "plots").glob(f"{key}-y*.safetensors")):
            with safe_open(path, "pt") as file:
                plots.append(records.load(Plot, json.loads(file.metadata()["plot"]), str(path)))
        note = folder / "broken" / f"{key}.json"
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
        "preparation": records.dump(preparation),
        "encoder": records.dump(models.encoder.spec) if models.encoder else None,
        "autoencoder": models.first_stage.digest if models.first_stage else None,
    }
    return json.dumps(parts, indent=2, sort_keys=True) + "\n"


def _claim(folder: Path, settings: str) -> None:
    """Note how the dataset is made; refuse to go on with one that was made differently."""
    path = folder / _SETTINGS
    if path.exists() and path.read_text(encoding="utf-8") != settings:
        raise MismatchError(
            f"`{folder}` holds a dataset prepared with other settings, encoder or autoencoder (see `{path}`); "
            "name another folder, or delete this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(settings, encoding="utf-8")


def _write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _stub(entry: Entry) -> Plot:
    return Plot(entry.key, entry.name, entry.group, entry.split, entry.licence, entry.label, (0, 0, 0, 0), 0.0)
