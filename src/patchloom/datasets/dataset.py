"""The dataset store: plots cut from slides, with what was computed of them once.

    dataset.json          DatasetRecord: pixel size, encoder, autoencoder, every plot with its source, group and split
    plots/NAME.safetensors
        pixels            uint8 (height, width, 3)
        latents.V         float16 (height / factor, width / factor, channels) of view V
        cells.V           float16 (rows, cols, dim), the embedding grid under and around the plot, as view V lies
        valid.V           bool (rows, cols)
        origin.V          float32 (2,), y and x of the centre of cell (0, 0), pixels from the plot's corner

A plot is a contiguous piece of a slide at the dataset's pixel size, many patches large, so that crops fall anywhere.
A view is one of the eight ways to lay it down (`views.py`), encoded from the pixels as they lie then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from patchloom import records
from patchloom.datasets.planes import Planes
from patchloom.errors import FormatError, InputError, MismatchError
from patchloom.geometry import PixelSize
from patchloom.grids.spec import EncoderSpec

NAME = "dataset.json"
FORMAT = 1
_AXES = 3  # of a plane: height, width, channels
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot and where it comes from."""

    name: str  # file name in plots/, without suffix
    source: str  # file name of the slide
    group: str  # patient or place: never in the test split and in another one
    split: Split
    licence: str
    label: str
    box: tuple[int, int, int, int]  # y, x, height, width in the slide at the dataset's pixel size
    tissue: float  # valid share of its area
    stated: str | None = None  # the pixel size that the manifest gave the slide, empty where none; None: not recorded


@dataclass(frozen=True, slots=True)
class Broken:
    """A slide that could not be prepared, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """What `dataset.json` holds."""

    format: int
    pixel_size: str
    patch_px: int
    stride_px: int
    encoder: EncoderSpec | None
    autoencoder: str | None  # digest of its weights
    factor: int | None  # pixels a latent
    views: tuple[int, ...]
    plots: tuple[Plot, ...]
    broken: tuple[Broken, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened dataset store."""

    folder: Path
    record: DatasetRecord

    @property
    def pixel_size(self) -> PixelSize:
        """Of every plot."""
        return PixelSize.parse(self.record.pixel_size)

    def plots(self, split: Split) -> list[Plot]:
        """The plots of a split, in the order of the record."""
        return [plot for plot in self.record.plots if plot.split == split]

    def tensors(self, plot: Plot, names: list[str]) -> list[Tensor]:
        """Named tensors of a plot. Raises FormatError where the file lacks one or is damaged."""
        with self._opened(plot) as file:
            return [file.get_tensor(name) for name in names]  # type: ignore[no-untyped-call]

    def pack(self, split: Split, names: list[str], device: torch.device) -> Planes:
        """The named tensors of every plot of a split as planes, name by name.

        Raises InputError where the split is empty, FormatError where a file lacks one of them or is damaged.
        """
        places = [(plot, name) for name in names for plot in self.plots(split)]
        if not places:
            raise InputError(f"dataset `{self.folder}` has no plot in split `{split}`")
        planes = (self.tensors(plot, [name])[0] for plot, name in places)
        sizes = [self._size(plot, name) for plot, name in places]
        return Planes.pack((p if p.ndim == _AXES else p[..., None] for p in planes), sizes, device)

    def _size(self, plot: Plot, name: str) -> tuple[int, int]:
        with self._opened(plot) as file:
            height, width = file.get_slice(name).get_shape()[:2]  # type: ignore[no-untyped-call]
            return height, width

    @contextmanager
    def _opened(self, plot: Plot) -> Iterator[safe_open]:
        path = self.folder / "plots" / f"{plot.name}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise FormatError(
                f"plot `{path}` of the dataset is missing or damaged ({error}); run `patchloom prepare` again, "
                "it makes what is missing"
            ) from None


def open_dataset(folder: Path) -> Dataset:
    """Open a dataset. Raises MissingError, FormatError, or MismatchError where a group is in two splits."""
    record = records.read_json(DatasetRecord, folder / NAME)
    if record.format != FORMAT:
        raise FormatError(
            f"`{folder}` has dataset format {record.format}, this version reads {FORMAT}: prepare it again"
        )
    check_splits(record.plots)
    return Dataset(folder, record)


def check_splits(plots: tuple[Plot, ...]) -> None:
    """Refuse groups that are in the test split and in another one, naming them."""
    splits: dict[str, set[str]] = {}
    for plot in plots:
        splits.setdefault(plot.group, set()).add(plot.split)
    leaking = sorted(group for group, found in splits.items() if "test" in found and len(found) > 1)
    if leaking:
        raise MismatchError(
            f"{len(leaking)} patients or places are in `test` and in another split: {', '.join(leaking[:10])}. "
            "Figures on them would be false; mend the split column of the manifest and prepare again"
        )


def check_latents(dataset: Dataset) -> int:
    """Pixels a latent of a dataset that has latents and embeddings; InputError says what is missing."""
    record = dataset.record
    if record.factor is None or record.encoder is None:
        lacks = "latents" if record.factor is None else "embeddings"
        raise InputError(
            f"dataset `{dataset.folder}` holds no {lacks}, which a denoiser needs; "
            "prepare it again with --autoencoder and --encoder"
        )
    return record.factor
