"""Training the first stage: pictures held to their losses, and latents that bear noise and halving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, as_float
from patchloom.autoencoders.files import digest, load_autoencoder, save_autoencoder
from patchloom.datasets.dataset import Dataset
from patchloom.datasets.planes import Planes
from patchloom.datasets.views import VIEWS, lay
from patchloom.errors import InputError, MismatchError
from patchloom.training.autoencoder_losses import Criterion
from patchloom.training.checkpoint import Progress
from patchloom.training.config import AutoencoderTraining
from patchloom.training.discriminator import Adversaries, PatchDiscriminator
from patchloom.training.draws import Draws
from patchloom.training.ema import channels_last
from patchloom.training.journal import Report
from patchloom.training.made import MARGIN, inside, made_latents

_VALIDATION_CROPS = 64  # at most
_SHOWN = 8  # of them, in a picture
_SPREAD = 1e-4  # keeps the division by a channel's deviation finite


class AutoencoderTask:
    """Random crops of every plot in random views. A datum is one patch's worth of a plot's area."""

    def __init__(
        self,
        config: AutoencoderTraining,
        dataset: Dataset,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        report: Report = lambda progress, figures: None,
    ) -> None:
        """`dtype` is that of the products by which latents are made, where the config asks for such.

        `report` hears how many there are.
        """
        torch.manual_seed(config.seed)
        self.config = config
        network = ConvolutionalAutoencoder(config.shape)
        if config.crop_px % (2 * network.factor):
            raise InputError(f"`crop_px` is {config.crop_px}, but must be a multiple of {2 * network.factor}")
        if config.initial is not None:
            _start(network, Path(config.initial))
        self.decoder_only = config.parts == "decoder"
        network.encoder.requires_grad_(not self.decoder_only)
        judge = PatchDiscriminator(config.losses.discriminator) if config.losses.adversarial else None
        whole = Adversaries(network, judge) if judge else network
        self.module: nn.Module = channels_last(whole.to(device))
        self.criterion = Criterion(config.losses, device, network.factor)
        self.made = None
        if config.made:
            self.made = made_latents(
                config, config.made, dataset, network, dtype, lambda count: report(Progress(), {"made/windows": count})
            )
        self.pixels, self.plots = _pixels(dataset, config.crop_px, device)
        self.held_out = _validation(dataset, device)
        if compiled:
            network.encoder.compile(dynamic=False)
            network.decoder.compile(dynamic=False)

    def __len__(self) -> int:
        return len(self.plots)

    def loss(self, index: Tensor, draws: Draws) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, a scalar, of one crop of the plot of each datum numbered `index` (b,), and its parts."""
        network = _network(self.module)
        made = self._made(len(index), draws)
        crops = self._crops(index[: len(index) - (len(made[0]) if made else 0)], draws)
        latents = self._latents(network, crops)
        if draws.host.random() < self.config.equivariance:
            latents, crops, made = F.avg_pool2d(latents, 2), F.avg_pool2d(crops, 2), None
        noise = torch.randn(latents.shape, generator=draws.device, device=latents.device)
        decoded = network.pixels(latents + self.config.latent_noise * noise).float()
        discriminator = self.module.discriminator if isinstance(self.module, Adversaries) else None
        free = (inside(network.pixels(made[0]).float(), MARGIN * network.factor), made[1]) if made else None
        return self.criterion(decoded, crops, draws, discriminator, free)

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> tuple[Mapping[str, float], Mapping[str, NDArray[np.uint8]]]:
        """PSNR on validation crops, beside that of a bicubic reduction by the same factor, and a sheet of pairs.

        Where the perceptual loss is trained, also the distance that it lowers.
        """
        network = _network(averaged)
        if not self.decoder_only:
            measure_constants(network, self.pixels, crops=len(self.held_out))
        decoded = network.decode(network.encode(self.held_out))
        small = F.interpolate(self.held_out.float(), scale_factor=1 / network.factor, mode="bicubic", antialias=True)
        bicubic = F.interpolate(small, size=self.held_out.shape[-2:], mode="bicubic").round().clamp(0, 255)
        figures = {
            "val/psnr": _psnr(decoded, self.held_out),
            f"val/psnr_bicubic{network.factor}": _psnr(bicubic, self.held_out),
        }
        if self.criterion.distance is not None:
            apart = [
                self.criterion.distance(as_float(a[None]), as_float(b[None]))
                for a, b in zip(decoded, self.held_out, strict=True)
            ]
            figures["val/perceptual"] = float(torch.cat(apart).mean())
        return figures, {"val/pairs": _pairs(self.held_out[:_SHOWN], decoded[:_SHOWN])}

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the averaged weights to `folder/autoencoder`, the constants measured on the training data.

        Where the decoder alone was trained, the encoder and the constants are those that it came with.
        """
        network = _network(averaged)
        kept = digest(Path(self.config.initial)) if self.decoder_only and self.config.initial else None
        if kept is None:
            measure_constants(network, self.pixels)
        exact = kept is None or _survives(network.encoder, torch.bfloat16)
        save_autoencoder(network, folder / "autoencoder", torch.bfloat16 if exact else torch.float32, latents=kept)

    def _latents(self, network: ConvolutionalAutoencoder, crops: Tensor) -> Tensor:
        if not self.decoder_only:
            return _standardised_by_batch(network.raw_latents(crops))
        with torch.no_grad():
            return network.standardised(network.raw_latents(crops).float())

    def _made(self, batch: int, draws: Draws) -> tuple[Tensor, Tensor] | None:
        """Latents that a denoiser made, for a share of the batch, and their colours."""
        count = min(round(batch * self.config.made.share), batch - 1) if self.config.made else 0
        if self.made is None or not count:
            return None
        latents, colours = self.made.draw(count, self.config.crop_px // _network(self.module).factor, draws)
        return latents.contiguous(memory_format=torch.channels_last), colours

    def _crops(self, index: Tensor, draws: Draws) -> Tensor:
        side = self.config.crop_px
        plane = self.plots[index]
        y, x = _places(self.pixels, plane, side, draws.device)
        crops = self.pixels.crops(plane, y, x, side, side)
        laid = lay(crops.permute(2, 3, 0, 1), draws.host.randrange(VIEWS)).permute(2, 3, 0, 1)
        return as_float(laid).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def measure_constants(network: ConvolutionalAutoencoder, pixels: Planes, crops: int = 512, side: int = 256) -> None:
    """Set the latents' mean and deviation from crops of the training pixels, spread over the planes by area.

    `crops` is how many at most; a small dataset is told by fewer.
    """
    generator = torch.Generator(pixels.values.device).manual_seed(0)
    shorter = pixels.height.minimum(pixels.width)
    side = min(side, int(shorter.max()) // network.factor * network.factor)
    crops = min(crops, _enough(pixels, side))
    area = torch.where(shorter >= side, pixels.height * pixels.width, 0).float()
    plane = torch.multinomial(area, crops, replacement=True, generator=generator)
    y, x = _places(pixels, plane, side, generator)
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, crops, 16):
        part = slice(start, start + 16)
        raw = network.raw_latents(as_float(pixels.crops(plane[part], y[part], x[part], side, side))).double()
        count += raw.shape[0] * raw.shape[2] * raw.shape[3]
        total, squares = total + raw.sum((0, 2, 3)), squares + raw.square().sum((0, 2, 3))
    mean = total / count
    network.mean.copy_(mean)
    network.deviation.copy_((squares / count - mean.square()).sqrt().clamp(min=_SPREAD))


def kept_encoder(config: AutoencoderTraining) -> str | None:
    """The digest of the autoencoder whose encoder is kept bit by bit; None where the encoder is trained."""
    return digest(Path(config.initial)) if config.parts == "decoder" and config.initial else None


def _start(network: ConvolutionalAutoencoder, folder: Path) -> None:
    """Give a network an autoencoder's weights and constants; a decoder may gain grain, and begins as if it had none.

    Raises MismatchError where its shape is another one.
    """
    first = load_autoencoder(folder)
    if network.shape not in (first.shape, replace(first.shape, grain=first.shape.grain or network.shape.grain)):
        raise MismatchError(f"`initial` is `{folder}`, of shape {first.shape}, but `shape` is {network.shape}: copy it")
    network.load_state_dict(network.state_dict() | first.state_dict())


def _survives(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a file in a dtype holds a module's weights bit by bit."""
    return all(torch.equal(p, p.to(dtype).to(p.dtype)) for p in module.parameters())


def _network(module: nn.Module) -> ConvolutionalAutoencoder:
    if isinstance(module, Adversaries):
        return module.autoencoder
    if not isinstance(module, ConvolutionalAutoencoder):
        raise TypeError(f"expected our autoencoder, found {type(module).__name__}")
    return module


def _places(pixels: Planes, plane: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Corners y and x (b,) of crops anywhere in the named planes."""
    place = torch.rand(2, len(plane), generator=generator, device=plane.device)
    y = (place[0] * (pixels.height[plane] - side + 1).clamp(min=1)).long()
    x = (place[1] * (pixels.width[plane] - side + 1).clamp(min=1)).long()
    return y, x


def _enough(pixels: Planes, side: int) -> int:
    """Crops that cover planes four times, and at least a row of a picture."""
    return max(_SHOWN, int(4 * (pixels.height * pixels.width).sum()) // side**2)


def _standardised_by_batch(raw: Tensor) -> Tensor:
    """Latents by the batch's own mean and deviation: no scale to hide from noise in."""
    raw = raw.float()
    mean, deviation = raw.mean((0, 2, 3)), raw.std((0, 2, 3)) + _SPREAD
    return (raw - mean[:, None, None]) / deviation[:, None, None]


def _psnr(a: Tensor, b: Tensor) -> float:
    """Mean over pictures of the peak signal to noise ratio, in dB."""
    error = (a.float() - b.float()).square().mean((1, 2, 3))
    return float((10 * torch.log10(255**2 / error)).mean())


def _pairs(left: Tensor, right: Tensor) -> NDArray[np.uint8]:
    rows = [torch.cat([row for row in part], dim=-1) for part in (left, right)]
    return torch.cat(rows, dim=-2).permute(1, 2, 0).cpu().numpy()


def _pixels(dataset: Dataset, side: int, device: torch.device) -> tuple[Planes, Tensor]:
    """The training pixels, and the plot of each datum."""
    pixels = dataset.pack("train", ["pixels"], device)
    shares = (pixels.height * pixels.width) // dataset.record.patch_px**2
    fits = (pixels.height >= side) & (pixels.width >= side)
    if not fits.any():
        raise InputError(f"no training plot of `{dataset.folder}` is as large as a crop of {side} px")
    plots = torch.arange(len(pixels), device=device).repeat_interleave(torch.where(fits, shares.clamp(min=1), 0))
    return pixels, plots


def _validation(dataset: Dataset, device: torch.device) -> Tensor:
    """Crops of 256 px, evenly spread over the validation plots; training plots where there are none."""
    pixels = dataset.pack("val" if dataset.plots("val") else "train", ["pixels"], device)
    count = min(_VALIDATION_CROPS, _enough(pixels, 256))
    number = torch.arange(count, device=device)
    plane = number % len(pixels)
    step = (number // len(pixels) + 1) / (count // len(pixels) + 2)
    y = ((pixels.height[plane] - 256).clamp(min=0) * step).long()
    x = ((pixels.width[plane] - 256).clamp(min=0) * (1 - step)).long()
    return pixels.crops(plane, y, x, 256, 256)
