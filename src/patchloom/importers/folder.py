"""An imported model as a folder of ours: two networks, and `imported.json`, which says where they come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.autoencoders import ldm_files as stages
from patchloom.errors import FormatError
from patchloom.geometry import PixelSize
from patchloom.importers.latent_diffusion import LatentDiffusion
from patchloom.importers.ldm_config import LatentDiffusionSpec
from patchloom.networks import ldm_files as denoisers

FORMAT = 1
RECORD = "imported.json"
_WEIGHTS = (f"autoencoder/{stages.WEIGHTS}", f"denoiser/{denoisers.WEIGHTS}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What no checkpoint says about itself and its user knows. None is not stated."""

    name: str
    pixel_size: str | None = None  # of the images that it was trained on
    encoder: str | None = None  # whose embeddings it was trained on
    licence: str | None = None  # of the weights


@dataclass(frozen=True, slots=True)
class ImportedRecord:
    """What `imported.json` holds."""

    format: int
    layout: Literal["latent-diffusion"]
    facts: Facts
    patch_px: int
    factor: int  # pixels a latent
    averaged: bool  # whether these are averaged weights
    passengers: tuple[str, ...]  # what the checkpoint held beside
    weights: dict[str, str]  # file in the folder -> digest


def save_imported(model: LatentDiffusion, folder: Path, facts: Facts, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder; `imported.json` comes last and makes it one. Raises InputError for a bad pixel size."""
    if facts.pixel_size is not None:
        PixelSize.parse(facts.pixel_size)
    (folder / RECORD).unlink(missing_ok=True)
    stages.save_first_stage(model.autoencoder, folder / "autoencoder", dtype)
    parts = denoisers.LatentDenoiser(model.network, model.embedder, model.spec.parametrisation)
    denoisers.save_latent_denoiser(parts, folder / "denoiser", dtype)
    digests = {name: weights.digest(folder / name) for name in _WEIGHTS}
    record = ImportedRecord(
        format=FORMAT,
        layout="latent-diffusion",
        facts=facts,
        patch_px=model.spec.patch_px,
        factor=model.autoencoder.factor,
        averaged=model.spec.ema,
        passengers=model.passengers,
        weights=digests,
    )
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(records.dump(record), indent=2) + "\n", encoding="utf-8")
    part.replace(folder / RECORD)


def load_imported(folder: Path) -> tuple[LatentDiffusion, ImportedRecord]:
    """Read the folder. Raises MissingError, or FormatError for a damaged one."""
    record = records.read_json(ImportedRecord, folder / RECORD)
    if record.format != FORMAT or set(record.weights) != set(_WEIGHTS):
        raise FormatError(f"`{folder / RECORD}` is of format {record.format} or names other weights than ours")
    for name, digest in record.weights.items():
        if weights.digest(folder / name) != digest:
            raise FormatError(f"`{folder / name}` is damaged or another version: its digest is not the recorded one")
    stage = stages.load_first_stage(folder / "autoencoder")
    parts = denoisers.load_latent_denoiser(folder / "denoiser")
    spec = LatentDiffusionSpec(
        unet=parts.network.shape,
        first_stage=stage.shape,
        embedder=parts.embedder.shape,
        parametrisation=parts.parametrisation,
        patch_px=record.patch_px,
        ema=record.averaged,
    )
    return LatentDiffusion(spec, parts.network, stage, parts.embedder, record.passengers), record
