"""`patchloom train`: an autoencoder, an encoder or a denoiser from a config file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchloom.cli import options
from patchloom.cli.output import emit, leads

if TYPE_CHECKING:  # torch
    from patchloom.training.checkpoint import Progress
    from patchloom.training.journal import Report


@click.command()
@click.argument("config", type=options.FILE)
@click.option(
    "--resume", is_flag=True, help="Go on from the checkpoint in the config's output folder, if there is one."
)
@click.option(
    "--minutes",
    metavar="N",
    type=options.Number(min=0, min_open=True),
    help="Stop after so long, with a checkpoint and the weights so far.",
)
@click.option(
    "--compile/--no-compile", "compiled", default=None, help="Compile networks with torch.compile; default: on CUDA."
)
@click.option("--show", is_flag=True, help="Print the whole config, defaults filled in, and train nothing.")
@options.device
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="The precision of products; weights and sums stay fp32. auto takes what a short calibration finds faster.",
)
@options.as_json
def train(
    config: Path,
    *,
    resume: bool,
    minutes: float | None,
    compiled: bool | None,
    show: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Train an autoencoder, an encoder or a denoiser.

    CONFIG is a YAML file that names a prepared dataset; its `output` folder gets checkpoints, a log that TensorBoard
    reads, sample pictures and the trained weights. Interrupting writes a checkpoint first. A denoiser or an autoencoder
    starts from another one's weights where the config names its folder as `initial`: so a pipeline's `denoiser` folder
    is trained on with your own data. An autoencoder with `parts: decoder` keeps its encoder bit by bit, and with it
    every latent that was ever made. Runs under `torchrun -m patchloom train` too.

    \b
    patchloom train denoiser.yaml --resume --minutes 60
    """
    from patchloom import records
    from patchloom.training.config import read_config
    from patchloom.training.run import machine_of, outcome, train_config

    training = read_config(config)
    if show:
        emit(records.dump(training), as_json)
        return
    machine = machine_of(device, dtype, compiled)
    seconds = None if minutes is None else 60 * minutes
    with _reporting(training.optimisation.samples) as report:
        done = train_config(training, machine, resume=resume, seconds=seconds, report=report)
    emit(outcome(training, done), as_json)


@contextmanager
def _reporting(samples: int) -> Iterator[Report]:
    """Lines of figures on stderr; on a terminal they scroll above a bar."""
    from patchloom.training.journal import line

    if not sys.stderr.isatty() or not leads():
        yield lambda progress, figures: click.echo(line(progress, figures), err=True)
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn())
    with bars.Progress(bars.TextColumn("train"), *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("train", total=samples)

        def report(progress: Progress, figures: Mapping[str, float]) -> None:
            bar.console.print(line(progress, figures), highlight=False)
            bar.update(task, completed=progress.seen)

        yield report
