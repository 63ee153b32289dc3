"""What every measure of `patchloom evaluate` shares: its networks, and where its report goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from patchloom.cli import options

if TYPE_CHECKING:  # torch
    from patchloom.encoders.encoder import Encoder
    from patchloom.encoders.lpips import Lpips
    from patchloom.evaluation.report import Report

Command: TypeAlias = Callable[..., Any]


def encoders(default: str) -> Callable[[Command], Command]:
    """The option `--encoder`, which may be repeated; `default` says in words what is taken without it."""
    return click.option(
        "--encoder",
        "encoders",
        multiple=True,
        metavar="NAME|FOLDER",
        help=f"A network to measure with: a name, as `patchloom doctor` lists them, or a folder; may be repeated; "
        f"default: {default}.",
    )


lpips = click.option(
    "--lpips",
    metavar="NAME",
    help="Measure LPIPS of the reconstruction, too: lpips-vgg16 or lpips-alexnet, with weights in the folder that "
    "PATCHLOOM_WEIGHTS names, or NAME:TRUNK,HEADS with files of them.",
)


def learned(name: str | None, device: str) -> Lpips | None:
    """LPIPS by the option's name, on a device; None where it was not asked for."""
    from patchloom.encoders.lpips import load_lpips
    from patchloom.machine import choose_device

    return None if name is None else load_lpips(name, choose_device(device))


def reported(command: Command) -> Command:
    """Where a report goes besides stdout."""
    page = click.option("--html", type=options.FILE, help="Write the report as one HTML page, too.")
    output = click.option("-o", "--output", type=options.FILE, help="Write the report as a JSON file, too.")
    return output(page(options.as_json(command)))


def networks(names: tuple[str, ...], device: str, dtype: str) -> list[Encoder]:
    """The named encoders on a device."""
    from patchloom.encoders.registry import load_encoder
    from patchloom.machine import choose_device, choose_dtype

    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    return [load_encoder(name, place, precision) for name in names]


def emit_report(made: Report, output: Path | None, html: Path | None, as_json: bool) -> None:
    """Print a report as a table, or as one JSON object, and write the files that were asked for."""
    from patchloom.evaluation.html import write_page
    from patchloom.evaluation.report import table, to_json, write_report

    if output is not None:
        write_report(made, output)
    if html is not None:
        write_page(made, html)
    click.echo(json.dumps(to_json(made), ensure_ascii=False) if as_json else table(made), nl=as_json)
