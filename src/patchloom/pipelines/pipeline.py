"""A pipeline: autoencoder, denoiser and what they expect, as one folder of JSON and safetensors."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom import records, weights
from patchloom.autoencoders import files as autoencoders
from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.encoders import trained
from patchloom.encoders.encoder import Encoder
from patchloom.errors import FormatError, MismatchError, MissingError
from patchloom.geometry import PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.networks import files as networks
from patchloom.networks.dit import DiT
from patchloom.networks.pixart import PixArt
from patchloom.pipelines.conditioning import ByBoth, ByCells, ByCellTokens, ByTokens, Conditioning
from patchloom.pipelines.kinds import LoadedDenoiser, Network, load_autoencoder, load_denoiser
from patchloom.pipelines.presets import find_pipeline
from patchloom.pipelines.record import AUTOENCODER, DENOISER, ENCODER, FORMAT, NOT_STATED, RECORD, PipelineRecord
from patchloom.pipelines.reference import encoder_of, is_same
from patchloom.whole import write_text

WEIGHTS = (f"{AUTOENCODER}/{autoencoders.WEIGHTS}", f"{DENOISER}/{networks.WEIGHTS}")
OWN_ENCODER = f"{ENCODER}/{trained.WEIGHTS}"  # a third, in pipelines that carry their encoder
_GLASS = 16  # latents on a side of the flat picture that tells what the background's latent is


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A loaded pipeline on a device, its weights in a dtype. `conditioning` makes what its kind of denoiser is told.

    `worse` is one that guides it, see `autoguidance.autoguided`.
    """

    record: PipelineRecord
    folder: Path
    autoencoder: Autoencoder
    denoiser: Preconditioned[Any]
    network: Network
    conditioning: Conditioning[Any]
    device: torch.device
    dtype: torch.dtype
    worse: Pipeline | None = None

    @property
    def told(self) -> Conditioning[Any]:
        """What its denoiser is told, and the one that guides it."""
        return self.conditioning if self.worse is None else ByBoth(self.conditioning, self.worse.conditioning)

    @property
    def identity(self) -> dict[str, Any]:
        """What provenance says of it: its name and the digest of its weights, and those of what guides it."""
        own = {"name": self.record.name, "digest": self.digest}
        return own if self.worse is None else own | {"autoguided_by": self.worse.identity}

    @property
    def pixel_size(self) -> PixelSize:
        """Of the images that it makes."""
        return PixelSize.parse(self.record.pixel_size)

    @property
    def digest(self) -> str:
        """Of the weights of both networks: which pipeline made an image."""
        return weights.digest_of(self.record.weights[name] for name in WEIGHTS)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What cannot be checked about a grid, since whoever made the weights did not state it."""
        own, name = self.record.encoder, self.record.name
        if NOT_STATED not in (own.name, own.digest):
            return ()
        if own.name == NOT_STATED:
            return (f"`{name}` does not state its encoder: of a grid only the length of embeddings is checked",)
        return (f"`{name}` does not state the weights of `{own.name}`: grids are checked by name and length alone",)

    def encoder(self) -> Encoder:
        """The encoder whose embeddings it was trained on; raises what `encoder_of` raises."""
        return encoder_of(self.record, self.folder, self.device, self.dtype)

    def background(self) -> NDArray[np.float32] | None:
        """The latent (channels,) of flat background; None where the model is left to make what it likes there."""
        if self.record.background is None:
            return None
        flat = torch.tensor(self.record.background, dtype=torch.uint8, device=self.device)
        side = _GLASS * self.record.factor
        latents = self.autoencoder.encode(flat[None, :, None, None].expand(1, 3, side, side))
        middle: NDArray[np.float32] = latents[0, :, _GLASS // 2, _GLASS // 2].cpu().numpy()
        return middle

    def check(self, grid: EmbeddingGrid, name: str = "the grid") -> None:
        """Raise MismatchError, saying what to do, where a grid is of another encoder, field of view or pixel size.

        What the pipeline does not state about its encoder is not compared; `doubts` says so.
        """
        own, other = self.record.encoder, grid.encoder
        again = f"embed the reference again with `patchloom embed --pipeline {self.record.name}`"
        if not is_same(own, other):
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
    """Load a preset by name, or a folder, of our own or imported.

    Raises MissingError, or FormatError where a record, a weight or a digest is not what it should be.
    """
    folder = find_pipeline(name)
    record = checked_record(folder)
    place = torch.device(device)
    autoencoder, loaded = load_autoencoder(folder / AUTOENCODER), load_denoiser(folder / DENOISER)
    for module in (autoencoder, loaded.network):
        weights.cast(module, dtype).to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    conditioning = _conditioning(record, loaded, place)
    return Pipeline(record, folder, autoencoder, loaded.denoiser, loaded.network, conditioning, place, dtype)


def _conditioning(record: PipelineRecord, loaded: LoadedDenoiser, device: torch.device) -> Conditioning[Any]:
    if isinstance(loaded.network, DiT | PixArt):
        return ByCellTokens(record.factor, loaded.network)
    if loaded.embedder is None:
        return ByCells(record.factor, record.condition.cell_px, PixelSize.parse(record.pixel_size), device)
    return ByTokens(record.factor, loaded.embedder.to(device))


def checked_record(folder: Path) -> PipelineRecord:
    """The record of a folder whose weights are those that it names. Raises MissingError or FormatError."""
    record = read_record(folder)
    for file, digest in record.weights.items():
        if not (folder / file).is_file():
            raise MissingError(
                f"pipeline `{folder}` has no weight file `{file}`, which its record names; copy it again"
            )
        if weights.digest(folder / file) != digest:
            raise FormatError(f"`{folder / file}` is damaged or another version: its digest is not the recorded one")
    return record


def read_record(folder: Path) -> PipelineRecord:
    """The record of a pipeline folder. Raises MissingError or FormatError."""
    record = records.read_json(PipelineRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has pipeline format {record.format}; this version reads {FORMAT}")
    if set(record.weights) - {OWN_ENCODER} != set(WEIGHTS):
        raise FormatError(f"`{folder / RECORD}` names weights {', '.join(record.weights)}, not {', '.join(WEIGHTS)}")
    PixelSize.parse(record.pixel_size)
    return record


def save_pipeline(
    folder: Path, autoencoder: Path, denoiser: Path, record: PipelineRecord, card: str, encoder: Path | None = None
) -> None:
    """Assemble a pipeline folder from the folders that training left; `pipeline.json` comes last and makes it one.

    `encoder` is one that `patchloom train` wrote, which no name finds: the pipeline then carries it. The weights'
    digests in `record` are replaced by those of the copied files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((autoencoder, AUTOENCODER), (denoiser, DENOISER), (encoder, ENCODER)):
        part = folder / f".{name}.part"
        if source is not None:
            shutil.copytree(source, part, dirs_exist_ok=True)
        shutil.rmtree(folder / name, ignore_errors=True)
        if source is not None:
            part.rename(folder / name)
    write_record(folder, record, card)


def write_record(folder: Path, record: PipelineRecord, card: str) -> None:
    """Make a pipeline of a folder that holds both networks: the card, and at last `pipeline.json` with digests."""
    write_text(folder / "README.md", card)
    names = [*WEIGHTS, *([OWN_ENCODER] if (folder / OWN_ENCODER).is_file() else [])]
    digests = {name: weights.digest(folder / name) for name in names}
    records.write_json(replace(record, weights=digests), folder / RECORD)
