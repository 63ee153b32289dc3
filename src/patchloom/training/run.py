"""From a config file's record to a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from patchloom import records
from patchloom.machine import choose_device, choose_dtype
from patchloom.training import checkpoint, loop
from patchloom.training.autoencoder import AutoencoderTask, variant
from patchloom.training.checkpoint import Progress
from patchloom.training.config import AutoencoderTraining, DenoiserTraining, EncoderTraining, Training
from patchloom.training.dataset import Dataset, open_dataset
from patchloom.training.denoiser import DenoiserTask
from patchloom.training.encoder import EncoderTask
from patchloom.training.events import LINES
from patchloom.training.journal import Report


def machine_of(device: str = "auto", dtype: str = "auto", compiled: bool | None = None) -> loop.Machine:
    """The machine that `--device`, `--dtype` and `--compile` name; compiled on CUDA where nothing is said."""
    place = choose_device(device)
    return loop.Machine(place, choose_dtype(dtype, place), place.type == "cuda" if compiled is None else compiled)


def train_config(
    config: Training,
    machine: loop.Machine,
    *,
    resume: bool = False,
    seconds: float | None = None,
    report: Report = lambda progress, figures: None,
) -> Progress:
    """Train what the config describes, into its `output` folder; the rest is told at `loop.train`.

    A checkpoint belongs to what is trained and to the dataset that it is trained on; how long and how fast, and what
    is written when, may change from one session to the next.
    """
    dataset = open_dataset(Path(config.data))
    return loop.train(
        _task(config, dataset, machine, resume),
        config.optimisation,
        config.upkeep,
        Path(config.output),
        machine,
        identity=_identity(config, dataset),
        seed=config.seed,
        resume=resume,
        seconds=seconds,
        report=report,
    )


def outcome(config: Training, progress: Progress) -> dict[str, str | int | float]:
    """How far a run came, and where what it wrote lies."""
    folder = Path(config.output)
    return {
        "samples": progress.seen,
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "checkpoint": str(folder / checkpoint.NAME),
        "log": str(folder / LINES),
        "export": str(folder / config.kind),
    }


def _task(config: Training, dataset: Dataset, machine: loop.Machine, resume: bool) -> loop.Task:
    if isinstance(config, AutoencoderTraining):
        return AutoencoderTask(config, dataset, machine.device, compiled=machine.compile)
    if isinstance(config, EncoderTraining):
        return EncoderTask(config, dataset, machine.device, compiled=machine.compile)
    return DenoiserTask(_begun(config, resume), dataset, machine.device, compiled=machine.compile)


def _begun(config: DenoiserTraining, resume: bool) -> DenoiserTraining:
    """The config without the weights to start from where a checkpoint has the say: they may be gone by then."""
    goes_on = resume and (Path(config.output) / checkpoint.NAME).exists()
    return replace(config, initial=None, fresh=()) if goes_on else config


def _identity(config: Training, dataset: Dataset) -> str:
    answer: object = variant(config) if isinstance(config, AutoencoderTraining) else None
    if isinstance(config, DenoiserTraining):
        answer = records.dump(config.parametrisation)
    if isinstance(config, EncoderTraining):
        answer = config.projection
    return loop.identity_of(config.kind, records.dump(config.shape), answer, records.dump(dataset.record))
