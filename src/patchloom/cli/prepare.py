"""`patchloom prepare`: slides to a training dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchloom.cli import options
from patchloom.cli.output import emit, leads, note
from patchloom.cli.progress import progress
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

if TYPE_CHECKING:  # torch
    import torch

    from patchloom.datasets.cutting import Models
    from patchloom.datasets.dataset import Dataset
    from patchloom.datasets.prepare import Preparation
    from patchloom.datasets.stain import Colours

_SHARE = options.Number(0, 1)


@dataclass(frozen=True, slots=True)
class Cutting:
    """How slides are cut and laid; `Preparation` is made of it."""

    pixel_size: PixelSize
    patch_px: int
    stride_px: int
    plot_px: int
    background: float
    min_valid: float
    views: int
    recolour: Colours | None
    recolour_strength: float

    def preparation(self) -> Preparation:
        """What a dataset is told."""
        from patchloom.datasets.prepare import Preparation
        from patchloom.datasets.stain import Recolouring

        return Preparation(
            str(self.pixel_size),
            self.patch_px,
            self.stride_px,
            self.plot_px,
            self.background,
            self.min_valid,
            tuple(range(self.views)),
            Recolouring(self.recolour, self.recolour_strength) if self.recolour else None,
        )


cutting = options.gathered(
    Cutting,
    "cutting",
    options.pixel_size(
        "The pixel size of the dataset, to which slides are resampled: 0.5um, 0.3m or 20x (an objective power).",
        default="0.5um",
    ),
    click.option(
        "--patch", "patch_px", type=options.Whole(1), default=256, show_default=True, help="Side of a cell in px."
    ),
    click.option(
        "--stride", "stride_px", type=options.Whole(1), default=128, show_default=True, help="Between cells, in px."
    ),
    click.option(
        "--plot", "plot_px", type=options.Whole(1), default=2048, show_default=True, help="Longest side of a plot."
    ),
    click.option(
        "--background",
        type=_SHARE,
        default=0.1,
        show_default=True,
        help="Share of the plots without tissue that is kept.",
    ),
    click.option("--min-valid", type=_SHARE, default=0.25, show_default=True, help="The least valid share of a cell."),
    click.option(
        "--views", type=options.Whole(1, 8), default=8, show_default=True, help="How many flips and rotations."
    ),
    click.option(
        "--recolour",
        type=click.Choice(["stain", "rgb"]),
        help="Give the mirrored views (with --views 8) colours drawn anew: as other stains of haematoxylin and eosin, "
        "or as another camera and light.",
    ),
    click.option(
        "--recolour-strength",
        type=options.Number(0, 1, min_open=True),
        default=0.2,
        show_default=True,
        help="Deviation of the logarithm of a stain's amount or a channel's gain.",
    ),
)


@click.command()
@click.argument("slides", type=options.FILE, nargs=-1, required=True)
@options.output("The dataset's folder; the same command goes on with one that is not finished.", "folder")
@cutting
@options.slide_pixel_size
@click.option("--val", type=_SHARE, default=0.1, show_default=True, help="Share for validation, where no table says.")
@click.option("--test", type=_SHARE, default=0.1, show_default=True, help="Share for the test, where no table says.")
@click.option(
    "--encoder",
    metavar="NAME|FOLDER",
    default="efficientnet-lite0",
    show_default=True,
    help="The encoder of the embeddings: a name, as `patchloom doctor` lists them, or a folder; with +colour behind it "
    "it also says colours; none leaves them out.",
)
@click.option("--autoencoder", type=options.FILE, help="Folder of an autoencoder: latents are made with it.")
@options.device
@options.dtype
@options.as_json
def prepare(
    slides: tuple[Path, ...],
    *,
    output: Path,
    cutting: Cutting,
    slide_pixel_size: PixelSize | None,
    val: float,
    test: float,
    encoder: str,
    autoencoder: Path | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Make a training dataset from slides.

    SLIDES are files, or CSV tables with columns file, group, split and, where needed, pixel_size, licence, label. A
    group is a patient or a place and is never divided; slides named one by one are groups of their own. What has no
    split goes into one by --val and --test. A slide that cannot be read is named and the others are finished. Runs
    under `torchrun -m patchloom prepare` too.
    """
    from patchloom.datasets.manifest import Shares, entries_of
    from patchloom.datasets.prepare import prepare as make
    from patchloom.machine import choose_device, choose_dtype

    place = choose_device(device)
    models = _models(encoder, autoencoder, place, choose_dtype(dtype, place))
    entries = entries_of(slides, Shares(val, test), slide_pixel_size)
    with progress() as bar:
        bars = {"slides": bar("slides"), "plots": bar("plots")} if leads() else {}
        made = make(
            entries,
            output,
            cutting.preparation(),
            models,
            lambda what, done, total: bars[what](done, total) if bars else None,
            device=place,
            note=lambda sentence: note([sentence]),
        )
    emit(_facts(output, made), as_json)
    if not made.record.plots:
        raise InputError(_nothing(made))


def _models(encoder: str, autoencoder: Path | None, device: torch.device, dtype: torch.dtype) -> Models:
    from patchloom import weights
    from patchloom.autoencoders.files import digest, load_autoencoder
    from patchloom.datasets.cutting import FirstStage, Models
    from patchloom.encoders.registry import load_encoder

    network = None if encoder == "none" else load_encoder(encoder, device, dtype)
    if autoencoder is None:
        return Models(network)
    first = load_autoencoder(autoencoder)
    weights.cast(first, dtype).to(device)
    return Models(network, FirstStage(first, digest(autoencoder), first.encoder_reach, device))


def _nothing(made: Dataset) -> str:
    """Why a dataset is empty: no slide could be read, or none gave a plot."""
    if not made.record.broken:
        return f"no plot was kept for `{made.folder}`: the slides hold background only; see --background"
    first, count = made.record.broken[0], len(made.record.broken)
    return f"nothing to train on: {count} slides could not be used. The first, `{first.source}`: {first.reason}"


def _facts(folder: Path, made: Dataset) -> dict[str, object]:
    counts = {split: len(made.plots(split)) for split in ("train", "val", "test")}
    broken = [{"source": broken.source, "reason": broken.reason} for broken in made.record.broken]
    return {"path": str(folder), "pixel_size": made.record.pixel_size, "plots": counts, "broken": broken}
