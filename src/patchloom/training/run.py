"""From a config file's record to a training run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from patchloom import records
from patchloom.autoencoders.convolutional import ConvolutionalShape
from patchloom.datasets.dataset import Dataset, open_dataset
from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.encoders.trained_network import TrainedShape
from patchloom.machine import choose_device, choose_dtype
from patchloom.networks.unet import UNetShape
from patchloom.training import checkpoint, loop
from patchloom.training.autoencoder import AutoencoderTask, kept_encoder
from patchloom.training.checkpoint import Progress
from patchloom.training.config import AutoencoderTraining, DenoiserTraining, EncoderTraining, Training
from patchloom.training.denoiser import DenoiserTask
from patchloom.training.discriminator import WIDTHS
from patchloom.training.encoder import EncoderTask
from patchloom.training.events import LINES
from patchloom.training.identity import Identity, digest
from patchloom.training.journal import Report


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained, and on what. A new field needs a default that says what held before it was there."""

    kind: str
    network: ConvolutionalShape | UNetShape | TrainedShape
    dataset_digest: str  # of its record, which lists every plot
    parametrisation: Parametrisation | None = None  # of a denoiser
    projection: tuple[int, ...] | None = None  # of an encoder
    encoder: str | None = None  # digest of the autoencoder whose encoder is kept as it is
    adversarial: bool = False
    discriminator: tuple[int, ...] = WIDTHS  # whatever it is where there is none


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
    is written when, may change from one session to the next. Raises MissingError or FormatError for what is no dataset,
    InputError where the config does not fit it or `output` holds a run and nobody said `resume`, and MismatchError
    where that run, or the weights it starts from, are of something else.
    """
    dataset = open_dataset(Path(config.data))
    return loop.train(
        _task(config, dataset, machine, resume, report),
        config.optimisation,
        config.upkeep,
        Path(config.output),
        machine,
        identity=identity(config, dataset),
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


def _task(config: Training, dataset: Dataset, machine: loop.Machine, resume: bool, report: Report) -> loop.Task:
    if isinstance(config, AutoencoderTraining):
        return AutoencoderTask(
            config, dataset, machine.device, dtype=machine.dtype, compiled=machine.compile, report=report
        )
    if isinstance(config, EncoderTraining):
        return EncoderTask(config, dataset, machine.device, compiled=machine.compile)
    return DenoiserTask(_begun(config, resume), dataset, machine.device, compiled=machine.compile)


def _begun(config: DenoiserTraining, resume: bool) -> DenoiserTraining:
    """The config without the weights to start from where a checkpoint has the say: they may be gone by then."""
    goes_on = resume and (Path(config.output) / checkpoint.NAME).exists()
    return replace(config, initial=None, fresh=(), appended=0) if goes_on else config


def identity(config: Training, dataset: Dataset) -> Identity:
    """What a checkpoint of this run belongs to."""
    return Identity(_subject(config, digest(records.told(dataset.record))), _formerly(config, dataset))


def _subject(config: Training, dataset_digest: str) -> Subject:
    if isinstance(config, AutoencoderTraining):
        return Subject(
            config.kind,
            config.shape,
            dataset_digest,
            encoder=kept_encoder(config),
            adversarial=bool(config.losses.adversarial),
            discriminator=config.losses.discriminator,
        )
    if isinstance(config, EncoderTraining):
        return Subject(config.kind, config.shape, dataset_digest, projection=config.projection)
    return Subject(config.kind, config.shape, dataset_digest, parametrisation=config.parametrisation)


def _formerly(config: Training, dataset: Dataset) -> str:
    """The digest that stood for all of it while no record had got a new field."""
    subject = _subject(config, "")
    variant = [subject.encoder, subject.adversarial] if subject.encoder or subject.adversarial else None
    parametrisation = records.dump(subject.parametrisation) if subject.parametrisation else None
    answer = parametrisation or subject.projection or variant
    return digest(config.kind, records.dump(config.shape), answer, records.dump(dataset.record))
