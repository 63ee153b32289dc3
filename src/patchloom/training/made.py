"""Latents as a denoiser makes them from training grids, so that a decoder learns to draw these, too.

A denoiser's latents are not quite an encoder's: a decoder that has seen the latter alone draws the former's faults.
There is no picture that made latents should become, so a discriminator says what is wrong with them, and the decoder's
own first picture, reduced to one colour a latent, what must stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from patchloom import weights
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.autoencoders.files import WEIGHTS as AUTOENCODER
from patchloom.autoencoders.files import digest
from patchloom.datasets.dataset import Dataset, check_latents
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import dpmpp_2m, run
from patchloom.errors import InputError, MismatchError
from patchloom.networks.files import WEIGHTS, load_denoiser
from patchloom.training.config import AutoencoderTraining, Made
from patchloom.training.draws import Draws
from patchloom.training.ema import channels_last
from patchloom.training.windows import Windows

NAME = "made.safetensors"
MARGIN = 4  # latents around a window that are cut off once it is made, or drawn: the outermost are unlike all others
_BATCH = 16
_LATENTS, _COLOURS = "latents", "colours"


@dataclass(frozen=True, slots=True)
class MadeLatents:
    """Made windows, and what must stay of their pictures."""

    latents: Tensor  # (n, channels, side, side) float16
    colours: Tensor  # (n, 3, side, side) float16 in [-1, 1]: the first decoder's pictures, a mean for each latent

    def draw(self, count: int, side: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Colours (count, 3, side, side) somewhere in some windows, and latents there with the margin around them."""
        number = torch.randint(len(self.latents), (count,), generator=draws.device, device=self.latents.device)
        wide = side + 2 * MARGIN
        y, x = (draws.host.randrange(self.latents.shape[-1] - wide + 1) for _ in "yx")
        latents, colours = (one[number, :, y : y + wide, x : x + wide].float() for one in (self.latents, self.colours))
        return latents, inside(colours, MARGIN)


def inside(pictures: Tensor, margin: int) -> Tensor:
    """Pictures without so many rows and columns on each side."""
    return pictures[..., margin : pictures.shape[-2] - margin, margin : pictures.shape[-1] - margin]


def made_latents(
    config: AutoencoderTraining,
    told: Made,
    dataset: Dataset,
    network: ConvolutionalAutoencoder,
    dtype: torch.dtype,
    tell: Callable[[int], None] = lambda count: None,
) -> MadeLatents:
    """Read the windows that the run's folder keeps, or make them there with the network's present decoder.

    Batches are kept beside as they are made, so that an interrupted making goes on; `tell` hears how many windows there
    are. Raises MismatchError where the folder keeps windows that were made otherwise, or the dataset's latents are of
    another encoder; InputError where windows are too small for crops, or have yet to be made and several processes ask.
    """
    _check(config, told, dataset, network.factor)
    path, device = Path(config.output) / NAME, network.mean.device
    words = {key: str(value) for key, value in asdict(told).items() if key not in ("denoiser", "share")}
    words["denoiser"] = weights.digest(Path(told.denoiser) / WEIGHTS)
    words["colours"] = weights.digest(Path(str(config.initial)) / AUTOENCODER)
    if not path.exists():
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(f"`{path}` is not there yet: begin the run in one process, which makes it, then resume it")
        _make(told, dataset, network, dtype, _Kept(path, words), tell)
    tensors = _read(path, words)
    return MadeLatents(tensors[_LATENTS].to(device), tensors[_COLOURS].to(device))


@dataclass(frozen=True, slots=True)
class _Kept:
    """Batches of windows beside the file that they become."""

    path: Path
    words: dict[str, str]

    def part(self, start: int) -> Path:
        """Where the batch that begins with window `start` lies."""
        return self.path.with_name(f".{self.path.stem}.{start}.safetensors")

    def has(self, start: int) -> bool:
        """Whether a batch is there. Raises MismatchError where it was made otherwise."""
        path = self.part(start)
        if path.exists():
            _check_words(path, self.words)
        return path.exists()

    def write(self, start: int, latents: Tensor, colours: Tensor) -> None:
        """Keep a batch."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        weights.write_tensors({_LATENTS: latents, _COLOURS: colours}, self.part(start), self.words)

    def join(self, starts: Sequence[int]) -> None:
        """Make one file of all batches, and leave none beside it."""
        batches = [_read(self.part(start), self.words) for start in starts]
        whole = {name: torch.cat([batch[name] for batch in batches]) for name in (_LATENTS, _COLOURS)}
        weights.write_tensors(whole, self.path, self.words)
        for start in starts:
            self.part(start).unlink()


def _read(path: Path, words: dict[str, str]) -> dict[str, Tensor]:
    _check_words(path, words)
    return weights.read_tensors(path)


def _check_words(path: Path, words: dict[str, str]) -> None:
    if weights.read_metadata(path) != words:
        raise MismatchError(f"`{path}` was made by another denoiser, or otherwise than `made` says; delete it")


def _check(config: AutoencoderTraining, told: Made, dataset: Dataset, factor: int) -> None:
    check_latents(dataset)
    if config.initial is None or dataset.record.autoencoder != digest(Path(config.initial)):
        raise MismatchError(
            f"the latents of `{dataset.folder}` are of another encoder than `{config.initial}`, so what a denoiser "
            "learnt from them is not for its decoder; name the dataset or the autoencoder that belong together"
        )
    least = config.crop_px // factor + 2 * MARGIN
    if told.window < least:
        raise InputError(f"`made.window` is {told.window} latents; crops of {config.crop_px} px need {least}")


def _make(
    told: Made,
    dataset: Dataset,
    autoencoder: ConvolutionalAutoencoder,
    dtype: torch.dtype,
    kept: _Kept,
    tell: Callable[[int], None],
) -> None:
    device = autoencoder.mean.device
    plain, network = load_denoiser(Path(told.denoiser))
    channels_last(network.to(device))
    denoiser = guided(plain, told.guidance, rescale=told.rescale)
    stages = dpmpp_2m(karras(told.steps, told.sigma_min, told.sigma_max))
    windows = Windows.read(dataset, "train", autoencoder.factor, told.window + 2 * MARGIN, (1, 2), device)
    starts = range(0, told.windows, _BATCH)
    for start in starts:
        stop = min(start + _BATCH, told.windows)
        if not kept.has(start):
            draws = Draws.seeded(device, 0, start)
            index = torch.randint(len(windows), (stop - start,), generator=draws.device, device=device)
            like, condition = windows.draw(index, draws)
            noise = torch.randn(like.shape, generator=draws.device, device=device)
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                latents = run(denoiser, stages, noise * stages[0].sigma, condition.to(device, torch.float32))
                colours = F.avg_pool2d(autoencoder.pixels(latents).float(), autoencoder.factor)
            kept.write(start, inside(latents, MARGIN).half(), inside(colours, MARGIN).half())
        tell(stop)
    kept.join(starts)
