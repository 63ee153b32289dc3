"""Two scales of ZoomLDM: a picture at a low magnification, and the large one at the finest that follows it.

The authors run both in one loop: at each step the large picture's windows are moved, by the derivative of their own
estimate, towards what the small one's estimate shows (ten moves of a fixed length, then a pass over the borders
between windows, which do not overlap). Here the small picture is finished first, and the windows, which overlap, are
held to it: the same law, p(coarse) p(fine | coarse), and a measurement that no longer changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.diffusion.measured import measured
from patchloom.errors import InputError
from patchloom.fields.field import ArrayField, Field
from patchloom.importers.latent_diffusion import LatentDiffusion
from patchloom.importers.official import How, default_run, patch
from patchloom.importers.zoom_scene import ZoomScene
from patchloom.loom.blended import BlendedDecode
from patchloom.loom.measured import MeasuredScene
from patchloom.loom.orders import weave_canvas
from patchloom.loom.run import Run
from patchloom.loom.slerp import SlerpScene
from patchloom.networks.zoom import ZoomEmbedder


def coarse_picture(
    model: LatentDiffusion, embeddings: NDArray[np.floating[Any]], magnification: int, how: How | None = None
) -> Field:
    """The picture (3, height, width) uint8 of a grid (rows, cols, dim) of the finest magnification, 2^k times smaller.

    Raises InputError for a model without magnifications, or a grid that is no whole number of such windows.
    """
    if not isinstance(model.embedder, ZoomEmbedder):
        raise InputError("this model has one magnification; pictures of several are ZoomLDM's")
    side = patch(model)
    scene = ZoomScene(embeddings, model.embedder, magnification, side)
    if any(length % scene.cells for length in embeddings.shape[:2]):
        raise InputError(
            f"a grid of {embeddings.shape[0]} x {embeddings.shape[1]} cells is no whole number of windows of "
            f"{scene.cells} x {scene.cells} cells, which magnification {magnification} has"
        )
    latents = weave_canvas(default_run(model, scene, scene.canvas, how))
    pixels = BlendedDecode(latents, model.autoencoder, side, max(side // 2, 1))
    return ArrayField(pixels.read(pixels.frame.box))


def following_run(
    model: LatentDiffusion, embeddings: NDArray[np.floating[Any]], coarse: Field, how: How | None = None
) -> Run[Any]:
    """The picture of a grid at the finest magnification that shows, downsampled, `coarse`: made, or a real one.

    Raises GeometryError where it is not the grid's picture, a whole number of times smaller.
    """
    side, factor = patch(model), model.autoencoder.factor
    rows, cols = embeddings.shape[:2]
    canvas = rows * side, cols * side
    told = SlerpScene.lattice(embeddings, side, model.embedder)
    smaller = max(canvas[0] * factor // coarse.frame.height, 1)
    run: Run[Any] = default_run(model, told, canvas, how)
    scene = MeasuredScene(told, coarse, canvas, smaller, per_latent=factor)
    return replace(run, denoiser=measured(run.denoiser, through=model.autoencoder), scene=scene)
