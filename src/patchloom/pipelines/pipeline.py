"""A pipeline: autoencoder, denoiser and what they expect, as one folder of JSON and safetensors."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom import records, weights
from patchloom.autoencoders import files as autoencoders
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.errors import FormatError, MismatchError
from patchloom.geometry import PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.networks import files as networks
from patchloom.networks.unet import UNet
from patchloom.pipelines.presets import find_pipeline
from patchloom.pipelines.record import AUTOENCODER, DENOISER, FORMAT, RECORD, PipelineRecord

_WEIGHTS = (f"{AUTOENCODER}/{autoencoders.WEIGHTS}", f"{DENOISER}/{networks.WEIGHTS}")
_GLASS = 16  # latents on a side of the flat picture that tells what the background's latent is


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A loaded pipeline on a device, its weights in a dtype."""

    record: PipelineRecord
    autoencoder: ConvolutionalAutoencoder
    denoiser: Preconditioned[GridCondition]
    network: UNet
    device: torch.device
    dtype: torch.dtype

    @property
    def pixel_size(self) -> PixelSize:
        """Of the images that it makes."""
        return PixelSize.parse(self.record.pixel_size)

    @property
    def digest(self) -> str:
        """Of the weights of both networks: which pipeline made an image."""
        return weights.digest_of(self.record.weights[name] for name in _WEIGHTS)

    def encoder(self) -> Encoder:
        """The encoder whose embeddings it was trained on. Raises MismatchError where its weights are others here."""
        encoder = load_encoder(self.record.encoder.name, self.device, self.dtype)
        if encoder.spec.digest != self.record.encoder.digest:
            raise MismatchError(
                f"encoder `{encoder.spec.name}` has weights {encoder.spec.digest[:19]} here, pipeline "
                f"`{self.record.name}` was trained with {self.record.encoder.digest[:19]}; install the version it names"
            )
        return encoder

    def background(self) -> NDArray[np.float32]:
        """The latent (channels,) of flat background."""
        flat = torch.tensor(self.record.background, dtype=torch.uint8, device=self.device)
        side = _GLASS * self.record.factor
        latents = self.autoencoder.encode(flat[None, :, None, None].expand(1, 3, side, side))
        middle: NDArray[np.float32] = latents[0, :, _GLASS // 2, _GLASS // 2].cpu().numpy()
        return middle

    def check(self, grid: EmbeddingGrid, name: str = "the grid") -> None:
        """Raise MismatchError, saying what to do, where a grid is of another encoder, field of view or pixel size."""
        own, other = self.record.encoder, grid.encoder
        again = f"embed the reference again with `patchloom embed --pipeline {self.record.name}`"
        if (own.name, own.digest) != (other.name, other.digest):
            raise MismatchError(
                f"{name} holds {other.dim}-d embeddings of `{other.name}` ({other.digest[:19]}), but pipeline "
                f"`{self.record.name}` expects {own.dim}-d ones of `{own.name}` ({own.digest[:19]}); {again}, "
                f"or take a pipeline trained on `{other.name}`"
            )
        if grid.cell_px != self.record.condition.cell_px or not grid.pixel_size.agrees(self.pixel_size):
            raise MismatchError(
                f"cells of {name} see {grid.cell_px} px of {grid.pixel_size}, those of pipeline `{self.record.name}` "
                f"{self.record.condition.cell_px} px of {self.pixel_size}; {again}"
            )


def load_pipeline(name: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Pipeline:
    """Load a preset by name, or a folder.

    Raises MissingError, or FormatError where a record, a weight or a digest is not what it should be.
    """
    folder = find_pipeline(name)
    record = read_record(folder)
    for file, digest in record.weights.items():
        if weights.digest(folder / file) != digest:
            raise FormatError(f"`{folder / file}` is damaged or another version: its digest is not the recorded one")
    place = torch.device(device)
    autoencoder = autoencoders.load_autoencoder(folder / AUTOENCODER)
    denoiser, network = networks.load_denoiser(folder / DENOISER)
    for module in (autoencoder, network):
        weights.cast(module, dtype).to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Pipeline(record, autoencoder, denoiser, network, place, dtype)


def read_record(folder: Path) -> PipelineRecord:
    """The record of a pipeline folder. Raises MissingError or FormatError."""
    record = records.read_json(PipelineRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has pipeline format {record.format}; this version reads {FORMAT}")
    if set(record.weights) != set(_WEIGHTS):
        raise FormatError(f"`{folder / RECORD}` names weights {', '.join(record.weights)}, not {', '.join(_WEIGHTS)}")
    PixelSize.parse(record.pixel_size)
    return record


def save_pipeline(folder: Path, autoencoder: Path, denoiser: Path, record: PipelineRecord, card: str) -> None:
    """Assemble a pipeline folder from the folders that training left; `pipeline.json` comes last and makes it one.

    The weights' digests in `record` are replaced by those of the copied files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((autoencoder, AUTOENCODER), (denoiser, DENOISER)):
        part = folder / f".{name}.part"
        shutil.copytree(source, part, dirs_exist_ok=True)
        shutil.rmtree(folder / name, ignore_errors=True)
        part.rename(folder / name)
    (folder / "README.md").write_text(card, encoding="utf-8")
    values = records.dump(record) | {"weights": {name: weights.digest(folder / name) for name in _WEIGHTS}}
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / RECORD)
