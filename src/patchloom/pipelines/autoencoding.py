"""How well a pipeline's autoencoder gives held-out pictures back, beside bicubic of the same reduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from patchloom.encoders.encoder import Encoder
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.comparison import Effort, compare
from patchloom.evaluation.entries import of_reconstruction
from patchloom.evaluation.estimates import Entry, Side
from patchloom.evaluation.features import features
from patchloom.evaluation.patches import UInt8, from_arrays
from patchloom.evaluation.reconstruction import Fidelity, bicubic_baseline, fidelity
from patchloom.evaluation.report import Report, report
from patchloom.pipelines.evaluate import EFFORT, Advance, Bars, silent
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.sides import Pictures

_BATCH = 16
OWN_CROPS = "each crop is encoded and decoded by itself: its margin sees nothing beyond it"


def reconstruction(
    pipeline: Pipeline,
    real: Pictures,
    encoders: Sequence[Encoder] = (),
    *,
    training: Pictures | None = None,
    effort: Effort = EFFORT,
    bars: Bars = silent,
) -> Report:
    """PSNR and SSIM of crops through the pipeline's autoencoder beside bicubic of the same reduction.

    With encoders, also the distances between the crops and their reconstructions. Raises MismatchError where the
    crops are of another pixel size than the pipeline's.
    """
    if real.pixel_size is not None and not real.pixel_size.agrees(pipeline.pixel_size):
        raise MismatchError(
            f"`{real.patches.name}` has pixels of {real.pixel_size}, the autoencoder was trained on "
            f"{pipeline.pixel_size}; give --pixel-size {pipeline.pixel_size}"
        )
    through = decoded(pipeline, real.patches.read, real.patches.n, bars("autoencoder"))
    entries = list(reconstruction_entries(pipeline, real, through))
    for encoder in encoders:
        entries += _reconstruction_distances(real, through, encoder, training, effort, bars)
    return report(f"{real.patches.name} through the autoencoder of {pipeline.record.name}", entries, (OWN_CROPS,))


def decoded(pipeline: Pipeline, read: Callable[[int], UInt8], n: int, advance: Advance) -> UInt8:
    """n pictures (3, h, h) of one size, encoded and decoded: (n, 3, h, h)."""
    parts = []
    for start in range(0, n, _BATCH):
        pixels = torch.from_numpy(np.stack([read(number) for number in range(start, min(start + _BATCH, n))]))
        _check_crops(pixels.shape[2], pipeline.record.factor)
        with torch.no_grad():
            latents = pipeline.autoencoder.encode(pixels.to(pipeline.device))
            parts.append(pipeline.autoencoder.decode(latents).cpu().numpy())
        advance(min(start + _BATCH, n), n)
    return np.concatenate(parts)


def _check_crops(side: int, factor: int) -> None:
    if side % factor:
        raise InputError(f"crops of {side} px are not whole latents of {factor} px; take a multiple with --crop")


def reconstruction_entries(pipeline: Pipeline, real: Pictures, through: UInt8) -> tuple[Entry, ...]:
    """PSNR, SSIM, those of bicubic, and their paired differences."""
    found: list[Fidelity] = []
    baseline: list[Fidelity] = []
    for number in range(real.patches.n):
        picture = real.patches.read(number)
        found.append(fidelity(picture, through[number]))
        baseline.append(fidelity(picture, bicubic_baseline(picture, pipeline.record.factor)))
    groups = real.patches.groups
    enough = groups is not None and len(np.unique(groups)) > 1
    side = Side(real.patches.name, real.patches.n, real.patches.codec)
    return of_reconstruction(found, baseline, (side,), groups=groups if enough else None)


def _reconstruction_distances(
    real: Pictures, through: UInt8, encoder: Encoder, training: Pictures | None, effort: Effort, bars: Bars
) -> tuple[Entry, ...]:
    groups = np.arange(real.patches.n) if real.patches.groups is None else real.patches.groups
    own = replace(real.patches, groups=groups)
    back = from_arrays(list(through), f"{own.name}, through the autoencoder", groups=groups)
    sides = [
        features(patches, encoder, progress=bars(f"{encoder.spec.name}: {patches.name}"))
        for patches in (own, back, training.patches if training else None)
        if patches is not None
    ]
    return compare(sides[0], sides[1], training=sides[2] if training else None, sourced=True, effort=effort)
