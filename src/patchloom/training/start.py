"""From a config file's record to a training run."""

from __future__ import annotations

from pathlib import Path

from patchloom import records
from patchloom.training import loop
from patchloom.training.autoencoder import AutoencoderTask
from patchloom.training.checkpoint import Progress
from patchloom.training.config import AutoencoderTraining, Training
from patchloom.training.dataset import open_dataset
from patchloom.training.denoiser import DenoiserTask


def start(
    config: Training,
    machine: loop.Machine,
    *,
    resume: bool = False,
    seconds: float | None = None,
    report: loop.Report = lambda progress, figures: None,
) -> Progress:
    """Train what the config describes, into its `output` folder; the rest is told at `loop.train`.

    A checkpoint belongs to a network's shape and the dataset that it was trained on; how long and how fast it is
    trained may change from one session to the next.
    """
    dataset = open_dataset(Path(config.data))
    if isinstance(config, AutoencoderTraining):
        task: loop.Task = AutoencoderTask(config, dataset, machine.device)
    else:
        task = DenoiserTask(config, dataset, machine.device)
    identity = loop.identity_of(config.kind, records.dump(config.shape), records.dump(dataset.record))
    return loop.train(
        task,
        config.optimisation,
        config.upkeep,
        Path(config.output),
        machine,
        identity=identity,
        seed=config.seed,
        resume=resume,
        seconds=seconds,
        report=report,
    )
