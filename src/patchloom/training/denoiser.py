"""Training a denoiser on windows of latents, each told what the embedding grid says under and around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.autoencoders.files import digest, load_autoencoder
from patchloom.datasets.dataset import Dataset, check_latents
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.levels import karras
from patchloom.diffusion.loss import denoising_loss, log_normal
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.diffusion.samplers import dpmpp_2m, run
from patchloom.errors import InputError, MismatchError
from patchloom.networks.files import load_denoiser, save_denoiser
from patchloom.networks.unet import UNet
from patchloom.training.config import DenoiserTraining
from patchloom.training.draws import Draws
from patchloom.training.ema import channels_last
from patchloom.training.initial import lengthened, start_from
from patchloom.training.windows import Windows

_JUDGED = 64  # validation windows whose loss is taken
_SHOWN = 8  # of them, how many are sampled for the picture
_JUDGED_AT = (0.1, 0.3, 1.0, 3.0)  # noise levels


class DenoiserTask:
    """Windows of every plot's latents in every view. A datum is one window's worth of a plane's area.

    Raises InputError where the network does not fit the dataset, MismatchError where the dataset's latents are of
    another autoencoder.
    """

    def __init__(
        self, config: DenoiserTraining, dataset: Dataset, device: torch.device, *, compiled: bool = False
    ) -> None:
        self.config, self.device = config, device
        self.autoencoder = _autoencoder(Path(config.autoencoder), dataset).to(device)
        _check_shape(config, dataset, self.autoencoder.channels)
        factor = self.autoencoder.factor
        self.windows = Windows.read(dataset, "train", factor, config.window, config.strides, device)
        self.wide = self.windows.of(config.wide.window) if config.wide else self.windows
        self.held_out = self.windows
        if dataset.plots("val"):
            self.held_out = Windows.read(dataset, "val", factor, config.window, config.strides, device)
        self.module: nn.Module = channels_last(self._network().to(device))
        if compiled:
            self.module.compile(dynamic=False)  # a grid thinned by another number of cells is another graph

    def _network(self) -> UNet:
        torch.manual_seed(self.config.seed)
        network = UNet(self.config.shape)
        mean, deviation = self.windows.grids.constants()
        network.cells.mean.copy_(mean)
        network.cells.deviation.copy_(deviation)
        if self.config.initial is not None:
            self._start(network, Path(self.config.initial))
        return network

    def _start(self, network: UNet, folder: Path) -> None:
        """Start from another denoiser: its answer to an embedding too, unless `fresh` takes out the constants.

        Values of embeddings that it was not told are `appended`: they say nothing at first.
        """
        first, weights = load_denoiser(folder)
        if first.parametrisation != self.config.parametrisation:
            raise MismatchError(
                f"`{folder}` was trained as {first.parametrisation}, but this config asks for "
                f"{self.config.parametrisation}"
            )
        found: Mapping[str, Tensor] = weights.state_dict()
        if self.config.appended:
            found = lengthened(found, network.state_dict(), self.config.appended)
        start_from(network, found, f"`{folder}`", self.config.fresh)

    def __len__(self) -> int:
        return len(self.windows)

    def loss(self, index: Tensor, draws: Draws) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The denoising loss at log-normal noise levels: a window from each datum's plane, or fewer larger ones."""
        config, generator = self.config, draws.device
        mean, windows = config.sigma_mean, self.windows
        if config.wide and draws.host.random() < config.wide.share:
            mean, windows = config.wide.sigma_mean, self.wide
            index = windows.instead_of(self.windows, index)
        x0, condition = windows.draw(index, draws)
        sigma = log_normal(len(index), generator, mean=mean, std=config.sigma_deviation)
        dropped = torch.rand(len(index), generator=generator, device=self.device) < config.dropped
        noise = torch.randn(x0.shape, generator=generator, device=self.device)
        condition = replace(condition, dropped=dropped)
        losses = denoising_loss(self.module, config.parametrisation, x0, condition, sigma, noise)
        return losses.mean(), {}

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> tuple[Mapping[str, float], Mapping[str, NDArray[np.uint8]]]:
        """Loss at fixed noise levels on validation windows, and a sheet: real, decoded, sampled from its grid."""
        draws = Draws.seeded(self.device, 0)
        index = torch.linspace(0, len(self.held_out) - 1, _JUDGED, device=self.device).long()
        x0, condition = self.held_out.draw(index, draws)
        noise = torch.randn(x0.shape, generator=draws.device, device=self.device)
        figures = {}
        for level in _JUDGED_AT:
            sigma = torch.full((_JUDGED,), level, device=self.device)
            losses = denoising_loss(averaged, self.config.parametrisation, x0, condition, sigma, noise)
            figures[f"val/loss_{level}"] = float(losses.mean())
        spread = slice(0, _JUDGED, _JUDGED // _SHOWN)
        sampled = self._sample(averaged, noise[spread], condition.take(torch.arange(_JUDGED)[spread]))
        pair = [self.autoencoder.decode(latents) for latents in (x0[spread], sampled)]
        sheet = torch.cat([torch.cat(list(row), dim=-1) for row in pair], dim=-2)
        return figures, {"val/decoded_and_sampled": sheet.permute(1, 2, 0).cpu().numpy()}

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the averaged network with its parametrisation to `folder/denoiser`."""
        if not isinstance(averaged, UNet):
            raise TypeError(f"expected our U-Net, found {type(averaged).__name__}")
        save_denoiser(averaged, self.config.parametrisation, folder / "denoiser", torch.bfloat16)

    def _sample(self, network: nn.Module, noise: Tensor, condition: GridCondition) -> Tensor:
        denoiser = Preconditioned[GridCondition](network, self.config.parametrisation)
        sigmas = karras(14, 0.02, 20.0)
        return run(denoiser, dpmpp_2m(sigmas), noise * float(sigmas[0]), condition)


def _autoencoder(folder: Path, dataset: Dataset) -> ConvolutionalAutoencoder:
    """The autoencoder that made the dataset's latents."""
    check_latents(dataset)
    if dataset.record.autoencoder != digest(folder):
        raise MismatchError(
            f"the latents of `{dataset.folder}` were made by another autoencoder than `{folder}`; "
            "prepare the dataset again with it, or name the one that made them"
        )
    return load_autoencoder(folder)


def _check_shape(config: DenoiserTraining, dataset: Dataset, channels: int) -> None:
    shape, encoder = config.shape, dataset.record.encoder
    dim = encoder.dim if encoder else None
    if (shape.channels, shape.embedding) != (channels, dim):
        raise InputError(
            f"the network is for {shape.channels} channels and embeddings of {shape.embedding}, but `{dataset.folder}` "
            f"has latents of {channels} channels and embeddings of {dim}; mend `shape` in the config"
        )
    windows = [config.window, *([config.wide.window] if config.wide else [])]
    if any(window % shape.multiple for window in windows):
        raise InputError(
            f"windows of {windows} latents do not fit a network of {len(shape.widths)} levels; "
            f"`window` must be a multiple of {shape.multiple}"
        )
