"""`patchloom train`: an autoencoder or a denoiser from a config file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchloom.cli import options
from patchloom.cli.output import emit

if TYPE_CHECKING:  # torch
    from patchloom.training.checkpoint import Progress


@click.command()
@click.argument("config", type=options.FILE)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the config's output folder.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after so long, with a checkpoint.")
@click.option(
    "--compile/--no-compile", "compiled", default=None, help="Compile the step with torch.compile; default: on CUDA."
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
    """Train an autoencoder or a denoiser on a prepared dataset.

    CONFIG is a YAML file; its `output` folder gets checkpoints, a log that TensorBoard reads, sample pictures and the
    trained weights. Interrupting writes a checkpoint first. Runs under torchrun too.
    """
    from patchloom import records
    from patchloom.machine import choose_device, choose_dtype
    from patchloom.training.config import read_config
    from patchloom.training.loop import Machine
    from patchloom.training.start import start

    training = read_config(config)
    if show:
        emit(records.dump(training), as_json)
        return
    place = choose_device(device)
    machine = Machine(place, choose_dtype(dtype, place), place.type == "cuda" if compiled is None else compiled)
    seconds = None if minutes is None else 60 * minutes
    done = start(training, machine, resume=resume, seconds=seconds, report=_line)
    emit({"output": training.output, "samples": done.seen, "steps": done.step, "seconds": done.seconds}, as_json)


def _line(progress: Progress, figures: Mapping[str, float]) -> None:
    said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    click.echo(f"{progress.seen:,} samples, {progress.seconds:.0f} s: {said}", err=True)
