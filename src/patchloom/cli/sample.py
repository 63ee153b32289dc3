"""`patchloom sample`: patches from embeddings, as a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchloom.cli import options
from patchloom.cli.drawing import Drawing, drawing
from patchloom.cli.output import emit, note
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

if TYPE_CHECKING:  # torch
    from patchloom.grids.grid import EmbeddingGrid
    from patchloom.pipelines.pipeline import Pipeline
    from patchloom.pipelines.settings import Settings

Cell = tuple[int, int]


def _cell(text: str) -> Cell:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise InputError(f"cell `{text}` is not ROW,COL, as in 3,14")
    return int(parts[0]), int(parts[1])


def _cells(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[Cell]:
    read = options.parsed(_cell)
    return [cell for value in values if (cell := read(ctx, param, value)) is not None]


@click.command()
@click.argument("pipeline")
@click.option(
    "--grid",
    "grid_path",
    type=options.FILE,
    required=True,
    help="The embedding grid, or feature file, to take cells from.",
)
@options.slide_pixel_size
@options.feature_file
@options.output("The contact sheet to write, a .png.", "image")
@click.option(
    "--count", metavar="COUNT", type=options.Whole(1), default=8, show_default=True, help="How many patches in a row."
)
@click.option(
    "--cell", "cells", multiple=True, metavar="ROW,COL", callback=_cells, help="Take this cell; may be repeated."
)
@click.option("--variations", is_flag=True, help="Show one cell COUNT times, each from other noise.")
@click.option("--between", is_flag=True, help="Show the way from one cell to another in COUNT steps, on one noise.")
@click.option("--reference", type=options.FILE, help="The slide of the grid: its own patches in a row above.")
@drawing
@options.device
@options.dtype
@options.as_json
def sample(
    pipeline: str,
    *,
    grid_path: Path,
    slide_pixel_size: PixelSize | None,
    grid_encoder: str | None,
    grid_patch: int | None,
    grid_tolerance: float | None,
    output: Path,
    count: int,
    cells: list[Cell],
    variations: bool,
    between: bool,
    reference: Path | None,
    drawing: Drawing,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Make patches from embeddings, as a contact sheet.

    Without --cell, cells are drawn by the seed. PIPELINE is a folder, or the name of one that comes with Patchloom.

    \b
    patchloom sample he-foundation --grid section.grid -o sheet.png --reference section.svs
    patchloom sample he-foundation --grid section.grid -o way.png --between --cell 3,4 --cell 20,9
    """
    from patchloom.pipelines.grids import Told, doubts, open_grid
    from patchloom.pipelines.sample import pick_cells

    if variations and between:
        raise click.UsageError("--variations and --between are two different sheets; give one of them")
    loaded = drawing.pipeline(pipeline, device, dtype)
    told = Told(grid_encoder, slide_pixel_size, grid_patch, grid_tolerance)
    grid = open_grid(loaded, grid_path, told)
    note(doubts(loaded, grid_path, told))
    wanted = 1 if variations else 2 if between else count
    chosen = cells or pick_cells(grid, wanted, drawing.seed)
    if (variations or between) and len(chosen) != wanted:
        kind = "--variations shows one cell" if variations else "--between goes from one cell to another"
        raise click.UsageError(f"{kind}: give --cell {'once' if wanted == 1 else 'twice'}, not {len(chosen)} times")
    note(_another(grid, reference))
    rows = _rows(loaded, grid, chosen, drawing.settings(), count=count, between=between, variations=variations)
    _write(rows, output, grid, reference, chosen)
    emit({"path": str(output), "cells": [f"{row},{col}" for row, col in chosen], "patches": len(rows)}, as_json)


def _another(grid: EmbeddingGrid, reference: Path | None) -> list[str]:
    """That the patches to be shown are of another slide than the grid's, as far as the names tell."""
    if reference is None or grid.reference is None or grid.reference.name == reference.name:
        return []
    return [f"the grid was embedded from `{grid.reference.name}`, the patches above are of `{reference.name}`"]


def _rows(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    cells: list[Cell],
    settings: Settings,
    *,
    count: int,
    between: bool,
    variations: bool,
) -> Any:
    from patchloom.pipelines.sample import embeddings_of, sample, slerp

    embeddings = embeddings_of(grid, cells)
    if between:
        return sample(pipeline, slerp(embeddings[0], embeddings[1], count), settings, same_noise=True)
    return sample(pipeline, embeddings.repeat(count, axis=0) if variations else embeddings, settings)


def _write(patches: Any, output: Path, grid: EmbeddingGrid, reference: Path | None, cells: list[Cell]) -> None:
    from patchloom.fields.field import ArrayField
    from patchloom.pipelines.sample import references_of, sheet
    from patchloom.pyramids.image import write_image

    rows = [patches] if reference is None else [references_of(grid, reference, cells), patches]
    write_image(ArrayField(sheet(rows), grid.pixel_size), output, provenance={"synthetic": True})
