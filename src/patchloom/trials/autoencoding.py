"""How well a pipeline's autoencoder gives held-out pictures back, beside bicubic of the same reduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from patchloom.autoencoders.convolutional import as_float
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.lpips import Lpips
from patchloom.encoders.perceptual import PerceptualDistance
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.comparison import Effort, compare
from patchloom.evaluation.entries import of_reconstruction
from patchloom.evaluation.estimates import Entry, Side
from patchloom.evaluation.features import Features, features
from patchloom.evaluation.patches import Patches, UInt8, from_arrays
from patchloom.evaluation.reconstruction import Fidelity, bicubic_baseline, fidelity
from patchloom.evaluation.report import Report, report
from patchloom.pipelines.pipeline import Pipeline
from patchloom.trials.evaluate import EFFORT, Advance, Bars, silent
from patchloom.trials.sides import Pictures

_BATCH = 16
OWN_CROPS = "each crop is encoded and decoded by itself: its margin sees nothing beyond it"


def reconstruction(
    pipeline: Pipeline,
    real: Pictures,
    encoders: Sequence[Encoder] = (),
    *,
    training: Pictures | None = None,
    lpips: Lpips | None = None,
    effort: Effort = EFFORT,
    bars: Bars = silent,
) -> Report:
    """PSNR, SSIM and perceptual distance of crops through the pipeline's autoencoder, beside bicubic of its reduction.

    With `lpips` also that. With encoders, also the distances between the crops and what comes back of them, either
    way. Raises MismatchError where the crops are of another pixel size than the pipeline's.
    """
    if real.pixel_size is not None and not real.pixel_size.agrees(pipeline.pixel_size):
        raise MismatchError(
            f"`{real.patches.name}` has pixels of {real.pixel_size}, the autoencoder was trained on "
            f"{pipeline.pixel_size}; give --pixel-size {pipeline.pixel_size}"
        )
    through = decoded(pipeline, real.patches.read, real.patches.n, bars("autoencoder"))
    entries = list(reconstruction_entries(pipeline, real, through, lpips))
    for encoder in encoders:
        entries += _reconstruction_distances(pipeline, real, through, encoder, training, effort, bars)
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


def reconstruction_entries(
    pipeline: Pipeline, real: Pictures, through: UInt8, lpips: Lpips | None = None
) -> tuple[Entry, ...]:
    """PSNR, SSIM, perceptual distance and LPIPS, those of bicubic, and their paired differences."""
    distance = PerceptualDistance().to(pipeline.device)
    found: list[Fidelity] = []
    baseline: list[Fidelity] = []
    for number in range(real.patches.n):
        picture = real.patches.read(number)
        reduced = bicubic_baseline(picture, pipeline.record.factor)
        both = np.stack([through[number], reduced])
        ours, theirs = _apart(distance, picture, both)
        learnt: Sequence[float | None] = (None, None) if lpips is None else _apart(lpips, picture, both)
        found.append(fidelity(picture, through[number], ours, learnt[0]))
        baseline.append(fidelity(picture, reduced, theirs, learnt[1]))
    groups = real.patches.groups
    enough = groups is not None and len(np.unique(groups)) > 1
    side = Side(real.patches.name, real.patches.n, real.patches.codec)
    told = f"{lpips.name}, {lpips.digest}" if lpips is not None else ""
    return of_reconstruction(found, baseline, (side,), groups=groups if enough else None, lpips=told)


@torch.no_grad()
def _apart(distance: PerceptualDistance | Lpips, picture: UInt8, others: UInt8) -> list[float]:
    """How far each of some pictures (n, 3, h, w) is from one (3, h, w)."""
    device = next(distance.parameters()).device
    one, several = (as_float(torch.from_numpy(pixels).to(device)) for pixels in (picture[None], others))
    return [float(value) for value in distance(one.expand_as(several), several)]


def _reconstruction_distances(
    pipeline: Pipeline,
    real: Pictures,
    through: UInt8,
    encoder: Encoder,
    training: Pictures | None,
    effort: Effort,
    bars: Bars,
) -> tuple[Entry, ...]:
    """The distances of the crops from their reconstructions, and from bicubic of the same reduction."""
    groups = np.arange(real.patches.n) if real.patches.groups is None else real.patches.groups
    own = replace(real.patches, groups=groups)
    reduced = [bicubic_baseline(own.read(number), pipeline.record.factor) for number in range(own.n)]

    def seen(patches: Patches) -> Features:
        return features(patches, encoder, progress=bars(f"{encoder.spec.name}: {patches.name}"))

    kept, learnt = seen(own), seen(training.patches) if training else None
    entries: list[Entry] = []
    for pictures, way, prefix in ((list(through), "the autoencoder", ""), (reduced, "bicubic", "bicubic_")):
        back = seen(from_arrays(pictures, f"{own.name}, through {way}", groups=groups))
        found = compare(kept, back, training=learnt, sourced=True, effort=effort)
        entries += [replace(entry, name=prefix + entry.name) for entry in found]
    return tuple(entries)
