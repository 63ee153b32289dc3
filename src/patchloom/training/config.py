"""What a training run is: the dataclasses that a config file holds, field by field, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from patchloom import records
from patchloom.autoencoders.convolutional import ConvolutionalShape
from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.encoders.trained_network import TrainedShape
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.networks.unet import UNetShape
from patchloom.training.autoencoder_losses import Losses
from patchloom.training.encoder_views import Looks


@dataclass(frozen=True, slots=True)
class Optimisation:
    """AdamW with a linear warm-up, then constant or down to zero as a half cosine over `samples`."""

    samples: int  # training samples to see in all, over every process
    batch: int = 32  # over every process
    rate: float = 1e-4
    warmup: int = 1000  # steps
    decay: Literal["constant", "cosine"] = "constant"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    ema_samples: float = 50_000.0  # half-life of the averaged weights, in samples; shorter while few were seen

    def __post_init__(self) -> None:
        _check_positive(self, "samples", "batch", "rate", "clip", "ema_samples")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How often a run writes, in samples seen."""

    log: int = 3_200
    pictures: int = 50_000
    checkpoint: int = 20_000

    def __post_init__(self) -> None:
        _check_positive(self, "log", "pictures", "checkpoint")


@dataclass(frozen=True, slots=True)
class Made:
    """Latents that a denoiser makes from the training grids: what a decoder meets in use, beside an encoder's."""

    denoiser: str  # folder, relative to the config file
    windows: int = 2000  # made once, before the first step, and kept in `output`
    window: int = 32  # latents a side
    share: float = 0.5  # of each batch
    steps: int = 11
    sigma_min: float = 0.02
    sigma_max: float = 40.0
    guidance: float = 1.0
    rescale: float = 0.0

    def __post_init__(self) -> None:
        _check_positive(self, "windows", "window", "steps", "sigma_min", "sigma_max")
        _check_share("made.share", self.share)


@dataclass(frozen=True, slots=True)
class AutoencoderTraining:
    """An autoencoder on the pixels of a prepared dataset."""

    kind: Literal["autoencoder"]
    data: str  # folder of a dataset, relative to the config file
    output: str  # folder of the run, relative to the config file
    optimisation: Optimisation
    shape: ConvolutionalShape = field(default_factory=ConvolutionalShape)
    crop_px: int = 128
    initial: str | None = None  # folder of an autoencoder whose weights a new run starts from
    parts: Literal["all", "decoder"] = "all"  # `decoder`: encoder and latents stay bit by bit those of `initial`
    losses: Losses = field(default_factory=Losses)
    made: Made | None = None
    latent_noise: float = 0.1  # deviation of the noise that the decoder learns to withstand
    equivariance: float = 0.25  # share of steps in which a halved latent must decode to the halved picture
    seed: int = 0
    upkeep: Upkeep = field(default_factory=Upkeep)

    def __post_init__(self) -> None:
        _check_positive(self, "crop_px")
        _check_share("equivariance", self.equivariance)
        if self.parts == "decoder" and self.initial is None:
            raise InputError("`parts: decoder` trains on an autoencoder that is there: name its folder as `initial`")
        if self.made and (self.parts != "decoder" or not self.losses.adversarial):
            raise InputError(
                "latents that are `made` have no picture to be held to, and belong to the encoder that the denoiser "
                "learnt from: set `parts: decoder` and `losses.adversarial`"
            )


@dataclass(frozen=True, slots=True)
class WideWindows:
    """Steps that see fewer, larger windows, about as many latents in all, so that what is far apart is learnt too."""

    window: int = 64  # latents a side
    share: float = 0.5  # of the steps
    sigma_mean: float = 0.0  # of log sigma in these steps: what is far apart is decided at high noise

    def __post_init__(self) -> None:
        _check_positive(self, "window")
        _check_share("share", self.share)


@dataclass(frozen=True, slots=True)
class DenoiserTraining:
    """A denoiser on the latents and embeddings of a prepared dataset."""

    kind: Literal["denoiser"]
    data: str
    output: str
    autoencoder: str  # folder of the autoencoder that made the dataset's latents; it decodes the sample pictures
    optimisation: Optimisation
    shape: UNetShape
    window: int = 32  # latents a side
    wide: WideWindows | None = None
    strides: tuple[int, ...] = (1, 2)  # the grid is thinned to one of these multiples of its stride
    parametrisation: Parametrisation = field(default_factory=Parametrisation)
    sigma_mean: float = -0.4  # of log sigma
    sigma_deviation: float = 1.4
    dropped: float = 0.1  # share of samples that see no condition
    initial: str | None = None  # folder of a denoiser whose weights a new run starts from
    fresh: tuple[str, ...] = ()  # beginnings of the names of tensors that do not come from it, as in `cells.`
    appended: int = 0  # values at the end of embeddings that it was not told
    seed: int = 0
    upkeep: Upkeep = field(default_factory=Upkeep)

    def __post_init__(self) -> None:
        _check_positive(self, "window", "sigma_deviation")
        _check_appended(self.appended, self.shape.embedding, self.initial)
        _check_share("dropped", self.dropped)
        if not self.strides or min(self.strides) < 1:
            raise InputError(f"`strides` are one or more whole numbers from 1 on, not {self.strides}")
        if self.wide and self.wide.window <= self.window:
            raise InputError(f"`wide.window` is larger than `window`, {self.window}, not {self.wide.window}")
        if self.fresh and self.initial is None:
            raise InputError("`fresh` names tensors that do not come from `initial`, but there is no `initial`")


@dataclass(frozen=True, slots=True)
class EncoderTraining:
    """An encoder on the pixels of a prepared dataset, without labels."""

    kind: Literal["encoder"]
    data: str
    output: str  # its last part names the encoder: grids say `local:NAME`
    optimisation: Optimisation
    shape: TrainedShape = field(default_factory=TrainedShape)
    loss: Literal["simclr", "vicreg"] = "simclr"
    projection: tuple[int, ...] = (512, 128)  # widths of the layers between embedding and loss
    crop_px: int = 96  # side of a look
    input_px: int = 128  # to which the exported encoder resizes pictures
    looks: Looks = field(default_factory=Looks)
    seed: int = 0
    upkeep: Upkeep = field(default_factory=Upkeep)

    def __post_init__(self) -> None:
        _check_positive(self, "crop_px", "input_px")
        if not self.projection or min(self.projection) < 1:
            raise InputError(f"`projection` is one or more widths from 1 on, not {self.projection}")
        if self.optimisation.batch < 2:
            raise InputError("an encoder learns by holding places against one another: `batch` must be 2 or more")


def _check_appended(appended: int, embedding: int, initial: str | None) -> None:
    if appended and initial is None:
        raise InputError("`appended` counts values that `initial` was not told, but there is no `initial`")
    if not 0 <= appended < embedding:
        raise InputError(f"`appended` counts some of the {embedding} values of an embedding, not {appended}")


Training = AutoencoderTraining | DenoiserTraining | EncoderTraining
_KINDS: dict[str, type[Any]] = {
    "autoencoder": AutoencoderTraining,
    "denoiser": DenoiserTraining,
    "encoder": EncoderTraining,
}


def read_config(path: Path) -> Training:
    """Read a YAML config; paths in it become absolute. Raises FormatError naming the key that does not fit."""
    import yaml

    if not path.is_file():
        raise MissingError(f"there is no config file `{path}`")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"`{path}` is not YAML: {error}") from None
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind not in _KINDS:
        raise FormatError(f"`{path}`: `kind` must be one of {', '.join(_KINDS)}; found {kind!r}")
    base = path.resolve().parent
    for key in ("data", "output", "autoencoder", "initial"):
        if isinstance(values.get(key), str):
            values[key] = str(base / values[key])
    if isinstance(made := values.get("made"), dict) and isinstance(made.get("denoiser"), str):
        made["denoiser"] = str(base / made["denoiser"])
    config: Training = records.load(_KINDS[kind], values, str(path))
    return config


def _check_positive(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not 0 < value < float("inf"):
            raise InputError(f"`{name}` must be positive, not {value}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"`{name}` is a share from 0 to 1, not {value}")
