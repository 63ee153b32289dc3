"""`patchloom evaluate`: measurements, each with its N, interval, floor and what it was measured with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from patchloom.cli import measured, options
from patchloom.cli.drawing import Drawing, drawing, load
from patchloom.cli.evaluate_encoders import encoders
from patchloom.cli.groups import Group
from patchloom.cli.progress import progress
from patchloom.geometry import PixelSize

if TYPE_CHECKING:  # torch
    from patchloom.trials.sides import Cut, Pictures

Split: TypeAlias = Literal["train", "val", "test"]

DEFAULT_ENCODER = "efficientnet-lite0"
_SPLITS = click.Choice(["train", "val", "test"])
_training = click.option(
    "--training",
    type=options.FILE,
    help="Training images, a side too (of a dataset or table its train split): they choose the principal axes.",
)
_pipeline = click.option(
    "--pipeline",
    metavar="NAME|FOLDER",
    help="The pipeline that made it; default: the one that the image names.",
)
_crop = click.option(
    "--crop",
    "crop_px",
    type=options.Whole(1),
    help="Cut squares of this side in px, side by side, from each picture; default: pictures as they are.",
)
_random = click.option(
    "--random", type=options.Whole(1), help="With --crop: so many at random places of each picture, instead."
)


class Measures(Group):
    """The measures of `patchloom evaluate`."""

    noun = "measure"


@click.group(cls=Measures, subcommand_metavar="MEASURE [ARGS]...")
def evaluate() -> None:
    """Measure generated images, or a whole pipeline on held-out slides.

    Every figure stands with its N, an interval, the floor that real images reach among themselves, and the network
    that it was measured with. `patchloom evaluate MEASURE --help` says what a measure takes.
    """


evaluate.add_command(encoders)


@evaluate.command()
@click.argument("real", type=options.FILE)
@click.argument("synthetic", type=options.FILE)
@measured.encoders(DEFAULT_ENCODER)
@_training
@options.pixel_size(
    "The pixel size to compare at: pictures that state another are resampled to it, those that state none are taken "
    "as they are; default: their own, which must be one."
)
@_crop
@_random
@click.option("--limit", type=options.Whole(2), help="At most so many patches a side, drawn by the seed.")
@click.option(
    "--split", type=_SPLITS, default="test", show_default=True, help="Of REAL, where it is a dataset or a table."
)
@click.option("--synthetic-split", type=_SPLITS, help="Of SYNTHETIC, where it is one; default: all of it.")
@click.option(
    "--whole",
    is_flag=True,
    help="The large-image distance: pictures of any size, each brought whole to the network's input.",
)
@click.option("--sourced", is_flag=True, help="Groups of SYNTHETIC name the groups of REAL that it was made from.")
@options.seed
@options.device
@options.dtype
@measured.reported
def distances(
    real: Path,
    synthetic: Path,
    *,
    encoders: tuple[str, ...],
    training: Path | None,
    pixel_size: PixelSize | None,
    crop_px: int | None,
    random: int | None,
    limit: int | None,
    split: Split,
    synthetic_split: Split | None,
    whole: bool,
    sourced: bool,
    seed: int,
    device: str,
    dtype: str,
    output: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Distances between two sets of pictures.

    Fréchet distance along the principal axes of training images and in full, kernel distance, precision, recall,
    density and coverage. REAL and SYNTHETIC are each a folder of pictures, a dataset of `patchloom prepare`, a CSV
    table with columns file, group and split, or one large picture. Never judge in the conditioning encoder alone.

    With --whole each picture counts once, shrunk as a whole: kernel distance with a Gaussian kernel (CMMD) and Fréchet
    distance. Papers take CLIP for it: --encoder clip-vit-l14-336 or clip-vit-b32. Networks of other distances:
    inception-v3 (as clean-fid resizes), inception-v3-tf1 (as torch-fidelity does); `patchloom doctor` says which are
    here.
    """
    from dataclasses import replace

    from patchloom.evaluation.comparison import Effort
    from patchloom.trials import evaluate as measures
    from patchloom.trials.sides import Cut, open_side

    if whole and (crop_px, random, training) != (None, None, None):
        raise click.UsageError("--whole takes pictures whole: leave out --crop, --random and --training")
    cut = Cut(crop_px, random, pixel_size, limit, seed)

    def opened(squeeze_px: int | None) -> tuple[Pictures, Pictures]:
        how = replace(cut, squeeze_px=squeeze_px)
        return open_side(real, how, _split_of(real, split)), open_side(synthetic, how, synthetic_split)

    effort, sides = Effort(seed=seed), None if whole else opened(None)
    networks = measured.networks(encoders or (DEFAULT_ENCODER,), device, dtype)
    with progress() as bar:
        if sides is None:
            made = measures.whole_distances(opened, networks, sourced=sourced, effort=effort, bars=bar)
        else:
            seen = _seen(training, cut)
            made = measures.distances(*sides, networks, training=seen, sourced=sourced, effort=effort, bars=bar)
    measured.emit_report(made, output, html, as_json)


@evaluate.command()
@click.argument("image", type=options.FILE)
@click.option("--grid", "grid_path", type=options.FILE, required=True, help="The grid that it was made from.")
@_pipeline
@click.option("--reference", type=options.FILE, help="The slide of the grid: for the ceiling, and other encoders.")
@options.slide_pixel_size
@measured.encoders("none but the pipeline's own")
@options.device
@options.dtype
@measured.reported
def similarity(
    image: Path,
    *,
    grid_path: Path,
    pipeline: str | None,
    reference: Path | None,
    slide_pixel_size: PixelSize | None,
    encoders: tuple[str, ...],
    device: str,
    dtype: str,
    output: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """How far a large image follows its grid.

    Cosines of the embeddings of the same cells, with the floor (other cells of the grid) and, with --reference, the
    ceiling (the slide through the autoencoder alone); and how often a cell is nearest to its own.
    """
    from patchloom.grids.file import read_grid
    from patchloom.trials import evaluate as measures

    loaded = load(pipeline or _made_by(image), device, dtype)
    with progress() as bar:
        made = measures.similarity(
            loaded,
            read_grid(grid_path),
            image,
            reference,
            encoders=measured.networks(encoders, device, dtype),
            slide_pixel_size=slide_pixel_size,
            bars=bar,
        )
    measured.emit_report(made, output, html, as_json)


@evaluate.command()
@click.argument("image", type=options.FILE)
@_pipeline
@click.option("--reference", type=options.FILE, help="A real picture of the same size: its lines are the floor.")
@options.seed
@options.device
@options.dtype
@measured.reported
def seams(
    image: Path,
    *,
    pipeline: str | None,
    reference: Path | None,
    seed: int,
    device: str,
    dtype: str,
    output: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Seams of an image that `patchloom generate` made.

    How much it changes across the borders of windows and tiles, over how much it changes across other lines: 1.00 is
    what real images give. Where borders lie is read from its provenance. The image should be lossless: .png, or .tif
    with --compression deflate.
    """
    from patchloom.trials.seams import block_of, seam_meter

    block_of(image)  # without it no --pipeline helps
    loaded = load(pipeline or _made_by(image), device, dtype)
    measured.emit_report(seam_meter(loaded, image, reference, seed=seed), output, html, as_json)


@evaluate.command()
@click.argument("pipeline")
@click.argument("real", type=options.FILE)
@measured.encoders("none; no distances of sets")
@measured.lpips
@_training
@click.option("--crop", "crop_px", type=options.Whole(1), help="Side of a crop in px; default: the pipeline's patch.")
@_random
@click.option("--limit", type=options.Whole(2), default=512, show_default=True, help="At most so many crops.")
@click.option("--split", type=_SPLITS, default="test", show_default=True, help="Of REAL, where it has splits.")
@options.seed
@options.device
@options.dtype
@measured.reported
def reconstruction(
    pipeline: str,
    real: Path,
    *,
    encoders: tuple[str, ...],
    lpips: str | None,
    training: Path | None,
    crop_px: int | None,
    random: int | None,
    limit: int,
    split: Split,
    seed: int,
    device: str,
    dtype: str,
    output: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """What a pipeline's autoencoder keeps of real pictures.

    PSNR, SSIM and perceptual distance of crops, beside bicubic of the same reduction; with --encoder also the Fréchet
    and kernel distances of either from the crops. The perceptual distance compares early feature maps of
    efficientnet-lite0 as LPIPS compares those of its own networks; --lpips measures LPIPS itself. REAL is a folder,
    dataset, table or picture, brought to the pipeline's pixel size.
    """
    from patchloom.evaluation.comparison import Effort
    from patchloom.trials import autoencoding
    from patchloom.trials.sides import Cut, open_side

    loaded = load(pipeline, device, dtype)
    cut = Cut(crop_px or loaded.record.patch_px, random, loaded.pixel_size, limit, seed)
    side = open_side(real, cut, _split_of(real, split))
    networks, learned = measured.networks(encoders, device, dtype), measured.learned(lpips, device)
    with progress() as bar:
        made = autoencoding.reconstruction(
            loaded, side, networks, training=_seen(training, cut), lpips=learned, effort=Effort(seed=seed), bars=bar
        )
    measured.emit_report(made, output, html, as_json)


@evaluate.command("pipeline")
@click.argument("pipeline")
@click.option("--test", type=options.FILE, required=True, help="CSV table of slides; those of split test are taken.")
@click.option("--training", type=options.FILE, help="What it was trained on: a dataset, or a CSV table.")
@click.option("-o", "--output", type=options.FILE, required=True, help="Folder for pictures and report; resumable.")
@measured.encoders(f"{DEFAULT_ENCODER}, beside the pipeline's own")
@measured.lpips
@click.option("--quick", is_flag=True, help="Few slides, small regions: minutes, and figures that are only a glance.")
@click.option("--slides", type=options.Whole(1), help="At most so many slides, evenly spread over the table.")
@click.option("--region", "region_px", type=options.Whole(1), help="Longest side of a large image in px.")
@click.option(
    "--compose",
    "composed",
    type=options.Whole(0),
    default=0,
    show_default=True,
    help="So many large images composed of small slides, where the test has no large ones: crops and similarity.",
)
@drawing
@options.device
@options.dtype
@options.as_json
def whole_pipeline(
    pipeline: str,
    *,
    test: Path,
    training: Path | None,
    output: Path,
    encoders: tuple[str, ...],
    lpips: str | None,
    quick: bool,
    slides: int | None,
    region_px: int | None,
    composed: int,
    drawing: Drawing,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """A pipeline on held-out slides: every figure in one report.

    Fields of the test slides are split into A and B; images are made from A's embeddings and held against B, with the
    distance of A from B as the floor. Patches, crops of large images and the autoencoder alone; large images as wholes
    (the large-image distance: add --encoder clip-vit-l14-336 to have it in the space that papers use); similarity,
    diversity, seams, reconstruction, and copies of training images. Writes report.json, report.txt, report.html and
    all pictures; the same command goes on where an earlier one ended.
    """
    from dataclasses import replace

    from patchloom.trials.held_out import QUICK, Size
    from patchloom.trials.protocol import PAGE, evaluate_pipeline

    loaded = drawing.pipeline(pipeline, device, dtype)
    size = QUICK if quick else Size()
    learned = measured.learned(lpips, device)
    size = replace(size, slides=slides or size.slides, region_px=region_px or size.region_px, composed=composed)
    with progress() as bar:
        made = evaluate_pipeline(
            loaded,
            test,
            output,
            training=training,
            encoders=measured.networks(encoders or (DEFAULT_ENCODER,), device, dtype),
            settings=drawing.settings(),
            size=size,
            lpips=learned,
            bars=bar,
        )
    measured.emit_report(made.report, None, None, as_json)
    if not as_json:
        click.echo(f"report and pictures: {output / PAGE}")


def _seen(training: Path | None, cut: Cut) -> Pictures | None:
    from patchloom.trials.sides import open_side

    return None if training is None else open_side(training, cut, _split_of(training, "train"))


def _split_of(path: Path, split: Split) -> Split | None:
    """The split of a side that has splits; None for a folder of pictures or a picture."""
    return split if path.suffix.lower() == ".csv" or (path / "dataset.json").is_file() else None


def _made_by(image: Path) -> str:
    """The name of the pipeline that an image says made it. Raises UsageError where it says none that is here."""
    from patchloom.errors import MissingError
    from patchloom.pipelines.presets import find_pipeline
    from patchloom.pyramids.read import read_provenance

    made = (read_provenance(image) or {}).get("pipeline")
    if not isinstance(made, dict) or "name" not in made:
        raise click.UsageError(f"`{image}` does not say which pipeline made it; give --pipeline")
    try:
        find_pipeline(str(made["name"]))
    except MissingError as error:
        raise click.UsageError(f"`{image}` was made by a pipeline that is not here: {error}; give --pipeline") from None
    return str(made["name"])
