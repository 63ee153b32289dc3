"""`patchloom evaluate`: how far images follow their grid, how near they are to real ones, and their seams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.cli.progress import Bar, progress
from patchloom.geometry import PixelSize

if TYPE_CHECKING:  # torch
    import torch

    from patchloom.encoders.encoder import Encoder
    from patchloom.evaluation.report import Report
    from patchloom.pipelines.pipeline import Pipeline
    from patchloom.pipelines.sides import Cut

Split = Literal["train", "val", "test"]


class _Machine(NamedTuple):
    device: torch.device
    dtype: torch.dtype


@click.command()
@click.argument("made", type=options.FILE)
@click.option("--real", type=options.FILE, help="Real images to hold MADE against: distances.")
@click.option("--training", type=options.FILE, help="Real images that distances take their axes from; never judged.")
@click.option("--grid", "grid_path", type=options.FILE, help="The grid that MADE was generated from: similarity.")
@click.option("--reference", type=options.FILE, help="The slide of the grid, for the ceiling of the similarity.")
@click.option("--seams", is_flag=True, help="Measure seams at the borders that MADE's provenance names.")
@click.option("--pipeline", help="The pipeline that made it; needed with --grid and --seams.")
@click.option(
    "--encoder",
    "names",
    multiple=True,
    help="A feature network; may be repeated. Default: efficientnet-lite0 for distances, the pipeline's with --grid.",
)
@click.option("--crop", "crop_px", type=click.IntRange(1), help="Side of the crops that pictures are cut into, in px.")
@click.option("--limit", type=click.IntRange(1), help="At most so many crops of a side, drawn by the seed.")
@click.option("--pixel-size", metavar="SIZE", callback=options.parsed(PixelSize.parse), help="Bring both sides to it.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Of a dataset or table; default: test.")
@click.option("-o", "--output", type=options.FILE, help="Write the whole report as JSON.")
@options.seed
@options.device
@options.dtype
@options.as_json
def evaluate(
    made: Path,
    *,
    real: Path | None,
    training: Path | None,
    grid_path: Path | None,
    reference: Path | None,
    seams: bool,
    pipeline: str | None,
    names: tuple[str, ...],
    crop_px: int | None,
    limit: int | None,
    pixel_size: PixelSize | None,
    split: Split | None,
    output: Path | None,
    seed: int,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Measure generated images.

    MADE, --real and --training are each a folder of pictures, a dataset, a CSV table, or a large image. With --real:
    Fréchet and kernel distance, precision and recall, beside the distance of real images from real images. With
    --grid: the similarity of MADE's cells to the grid's, beside its floor (cells shuffled) and, with --reference, its
    ceiling (the reference through the autoencoder alone). Never judge in the conditioning encoder only.
    """
    from patchloom.evaluation.report import table, to_json, write_report
    from patchloom.machine import choose_device, choose_dtype
    from patchloom.pipelines.sides import Cut

    if real is None and grid_path is None and not seams:
        raise click.UsageError("say what to measure: --real, --grid or --seams, or several of them")
    place = choose_device(device)
    machine = _Machine(place, choose_dtype(dtype, place))
    reports: list[Report] = []
    with progress() as bar:
        if grid_path is not None:
            reports.append(_similarity(made, grid_path, reference, _pipeline(pipeline, machine), names, machine, bar))
        if real is not None:
            cut = Cut(crop_px, pixel_size=pixel_size, limit=limit, seed=seed)
            reports.append(
                _distances(made, real, training, cut=cut, split=split, names=names, machine=machine, bar=bar)
            )
        if seams:
            reports.append(_seams(made, reference, _pipeline(pipeline, machine), seed))
    found = _joined(reports)
    if output is not None:
        write_report(found, output)
    if as_json:
        emit(to_json(found), as_json)
    else:
        click.echo("\n".join(table(one) for one in reports), nl=False)


def _pipeline(name: str | None, machine: _Machine) -> Pipeline:
    from patchloom.pipelines.pipeline import load_pipeline

    if name is None:
        raise click.UsageError("--grid and --seams need --pipeline, which made the image")
    return load_pipeline(name, machine.device, machine.dtype)


def _encoders(names: tuple[str, ...], machine: _Machine) -> list[Encoder]:
    from patchloom.encoders.registry import load_encoder

    return [load_encoder(name, machine.device, machine.dtype) for name in names]


def _similarity(
    made: Path,
    grid: Path,
    reference: Path | None,
    pipeline: Pipeline,
    names: tuple[str, ...],
    machine: _Machine,
    bar: Bar,
) -> Report:
    from patchloom.grids.file import read_grid
    from patchloom.pipelines.evaluate import similarity

    others = _encoders(tuple(name for name in names if name != pipeline.record.encoder.name), machine)
    return similarity(pipeline, read_grid(grid), made, reference, encoders=others, bars=bar)


def _distances(
    made: Path,
    real: Path,
    training: Path | None,
    *,
    cut: Cut,
    split: Split | None,
    names: tuple[str, ...],
    machine: _Machine,
    bar: Bar,
) -> Report:
    from patchloom.encoders.registry import DEFAULT
    from patchloom.evaluation.comparison import Effort
    from patchloom.pipelines.evaluate import distances
    from patchloom.pipelines.sides import open_side

    def of_split(path: Path, wanted: Split) -> Split | None:
        return wanted if path.suffix.lower() == ".csv" or (path / "dataset.json").is_file() else None

    sides = [open_side(path, cut, of_split(path, split or "test")) for path in (real, made)]
    axes = None if training is None else open_side(training, cut, of_split(training, "train"))
    encoders = _encoders(names or (DEFAULT,), machine)
    return distances(sides[0], sides[1], encoders, training=axes, effort=Effort(seed=cut.seed), bars=bar)


def _seams(made: Path, reference: Path | None, pipeline: Pipeline, seed: int) -> Report:
    from patchloom.pipelines.seams import seam_meter

    return seam_meter(pipeline, made, reference, seed=seed)


def _joined(reports: list[Report]) -> Report:
    from dataclasses import replace

    first, *rest = reports
    return replace(
        first,
        title="; ".join(one.title for one in reports),
        figures=first.figures + tuple(figure for one in rest for figure in one.figures),
        absent=first.absent + tuple(absent for one in rest for absent in one.absent),
        notes=first.notes + tuple(note for one in rest for note in one.notes),
    )
