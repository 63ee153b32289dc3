"""The large-image distance: large images as wholes, each brought to the size that a network sees.

What patches and crops cannot show is whether the whole is laid out like a real one. The paper of the method
(Graikos et al., CVPR 2024) holds whole images against real ones in the space of CLIP; so does this, by the Fréchet
distance of its embeddings and by the kernel distance that Jayasumana et al. (CVPR 2024, CMMD) define on them.
Large images are few, so every figure here is rough, and its N and interval say how rough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.network import NetworkEncoder
from patchloom.errors import InputError
from patchloom.evaluation.comparison import Case, Effort, case_of, check_spaces
from patchloom.evaluation.estimates import Absent, Entry, Estimate, Figure
from patchloom.evaluation.features import Features, features
from patchloom.evaluation.frechet import frechet, frechet_warnings
from patchloom.evaluation.matrices import Matrix, checked_pair
from patchloom.evaluation.patches import Patches, UInt8
from patchloom.fields.field import Field
from patchloom.geometry import Box

NAME = "large_image_distance"
BANDWIDTH = 10.0  # of the Gaussian kernel, on embeddings of length 1
SCALE = 1000.0  # CMMD's own, so that its numbers are readable
FEW = 30  # images a side below which a reader must be told
_BAND_PX = 1024
_EFFORT = Effort()
_HOW = f"Gaussian kernel of bandwidth {BANDWIDTH:g} on embeddings of length 1, times {SCALE:g}"


def side_of(encoder: Encoder) -> int:
    """The side in px that a whole image is brought to for an encoder; a centre crop, where it takes one, follows."""
    return encoder.transform.resize_px if isinstance(encoder, NetworkEncoder) else encoder.spec.input_px


def squeezed(field: Field, side_px: int) -> UInt8:
    """A whole picture of any size as (3, side_px, side_px), antialiased bicubic; its proportions are not kept.

    Pillow's, along the rows of one band after the other and then down the columns, so that a picture of any size fits;
    Pillow itself may begin with the columns, which changes a value by its rounding, one at most.
    """
    box = field.frame.box
    narrow = np.empty((box.height, side_px, 3), np.uint8)
    for top in range(0, box.height, _BAND_PX):
        rows = min(_BAND_PX, box.height - top)
        band = np.moveaxis(field.read(Box(box.y + top, box.x, rows, box.width)), 0, -1)
        narrow[top : top + rows] = _resized(band, side_px, rows)
    return np.ascontiguousarray(np.moveaxis(_resized(narrow, side_px, side_px), -1, 0))


def _resized(picture: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BICUBIC))


def whole_features(
    wholes: Patches, encoder: Encoder, *, progress: Callable[[int, int], None] | None = None
) -> Features:
    """Features of whole images that were `squeezed` to `side_of(encoder)`."""
    found = features(wholes, encoder, progress=progress)
    cut = encoder.transform.crop_px if isinstance(encoder, NetworkEncoder) else encoder.spec.input_px
    side = side_of(encoder)
    told = f"whole images, antialiased bicubic to {side} x {side} px" + (f", centre {cut} px" if cut < side else "")
    return replace(found, space=replace(found.space, resizer=told))


def cmmd(real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """The distance as its authors' code computes it: over all pairs, those of a row with itself included.

    1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)), k(x, y) = exp(-|x - y|^2 / 200), of rows of length 1. It is
    biased: about 1000 (1 - mean k) / N comes from each side's own pairs, which few images do not let one overlook.
    """
    one, two, across = _kernels(real, synthetic)
    return float(SCALE * (one.mean() + two.mean() - 2 * across.mean()))


def kernel(real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """The same without the pairs of a row with itself: unbiased, zero on average between equals, maybe negative."""
    one, two, across = _kernels(real, synthetic)
    within = [(each.sum() - np.trace(each)) / (len(each) * (len(each) - 1)) for each in (one, two)]
    return float(SCALE * (sum(within) - 2 * across.mean()))


def _kernels(real: NDArray[Any], synthetic: NDArray[Any]) -> tuple[Matrix, Matrix, Matrix]:
    first, second = (_of_length_one(side) for side in checked_pair(real, synthetic))
    return _gaussian(first, first), _gaussian(second, second), _gaussian(first, second)


def _of_length_one(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if lengths.min() == 0:
        raise InputError("an embedding is zero, and has no direction to compare")
    return np.asarray(rows / lengths)


def _gaussian(one: Matrix, two: Matrix) -> Matrix:
    return np.asarray(np.exp((one @ two.T - 1) / BANDWIDTH**2))  # |x - y|^2 = 2 - 2 x.y


def large_image_distance(
    real: Features, synthetic: Features, *, sourced: bool = False, effort: Effort = _EFFORT
) -> tuple[Entry, ...]:
    """The kernel and Fréchet distances of whole images, each at its floor's N and as papers print it.

    `real` is halved at random, by groups where there are some; with `sourced`, groups of `synthetic` name the real
    groups that it was made from, and each half is held against what was made from the other. What cannot be computed
    is absent with its reason. Raises MismatchError for features of different spaces.
    """
    check_spaces([real, synthetic])
    least = min(len(real.rows), len(synthetic.rows))
    every = [_told(entry, least) for entry in _of_all(real, synthetic)]
    try:
        case = case_of(real, synthetic, None, sourced, effort)
    except InputError as error:
        return (*(Absent(f"{NAME}: {name}", str(error)) for name in ("kernel", "frechet")), *every)
    return (*(_told(entry, case.trials[0].n) for entry in _against_floor(case)), *every)


def _told(entry: Figure, least: int) -> Figure:
    few = (f"only {least} large images a side: a rough figure, whatever its interval",) if least < FEW else ()
    estimate = replace(entry.estimate, warnings=(*entry.estimate.warnings, *few))
    return replace(entry, name=f"{NAME}: {entry.name}", estimate=estimate)


def _against_floor(case: Case) -> tuple[Figure, Figure]:
    """At the N that the real images have among themselves."""
    near = case.against_floor(kernel, case.effort.resamples, (-inf, inf)).estimate
    far = case.against_floor(frechet, case.effort.full_resamples).estimate
    dim = case.real.shape[1]
    warned = replace(far, how=f"all {dim} dimensions", warnings=frechet_warnings(far.n[0], dim))
    return case.figure("kernel", replace(near, how=f"{_HOW}, unbiased")), case.figure("frechet", warned)


def _of_all(real: Features, synthetic: Features) -> tuple[Figure, Figure]:
    """Of all images, as papers print it."""
    n, dim, sides = (len(real.rows), len(synthetic.rows)), real.rows.shape[1], (real.side, synthetic.side)
    how = f"{_HOW}, all images, all pairs (CMMD as published, biased); there is no floor at this N"
    near = Estimate(cmmd(real.rows, synthetic.rows), n, how=how)
    how = f"all {dim} dimensions, all images; there is no floor at this N"
    far = Estimate(frechet(real.rows, synthetic.rows), n, how=how, warnings=frechet_warnings(min(n), dim))
    return Figure("cmmd", near, real.space, sides), Figure("frechet_all_images", far, real.space, sides)
