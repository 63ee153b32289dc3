"""How the paper's models are told about a window between cells: spherical interpolation of its four neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.ring import FLAT, Cells, Wrap
from patchloom.networks.ldm_tokens import TokenCondition, TokenEmbedder

_PARALLEL = 0.9995  # beyond this cosine, either way, the sine in the denominator is too small


def slerp(a: NDArray[Any], b: NDArray[Any], t: NDArray[Any]) -> NDArray[np.float64]:
    """Spherical interpolation (Shoemake 1985) of raw vectors (..., dim) at t (...), linear where they are parallel."""
    a, b, t = a.astype(np.float64), b.astype(np.float64), t.astype(np.float64)[..., None]
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.divide((a * b).sum(-1), lengths, out=np.ones_like(lengths), where=lengths > 0)[..., None]
    straight = np.abs(cosine) > _PARALLEL
    angle = np.arccos(np.where(straight, 0.0, cosine))
    arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.asarray(np.where(straight, (1 - t) * a + t * b, arc), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Interpolant:
    """What the cells of a grid say at any place of a canvas, by slerp of the four around it.

    At a cell's centre that is the cell's embedding; beyond the outermost centres the edge is repeated, and along an
    axis that wraps there is none. An invalid cell says nothing: it gives way to its neighbours.
    """

    embeddings: NDArray[np.floating[Any]]  # (rows, cols, dim)
    valid: NDArray[np.bool_]  # (rows, cols)
    origin: tuple[float, float]  # y and x of the centre of cell (0, 0), in latents from the canvas' corner
    step: tuple[float, float]  # from one centre to the next, in latents
    wrap: Wrap = FLAT

    @classmethod
    def of(cls, grid: EmbeddingGrid, factor: int) -> Interpolant:
        """A grid on its own canvas, `factor` pixels a latent."""
        centre, step = grid.cell_px / 2 / factor, grid.stride_px / factor
        return cls(grid.embeddings, grid.valid, (centre, centre), (step, step))

    def joined(self, wrap: Wrap, shape: tuple[int, int]) -> Interpolant:
        """The same on a canvas (height, width) that closes upon itself; what `Cells.closed` raises."""
        cells = Cells(self.embeddings, self.valid).closed(self.step, shape, wrap, slerp)
        return replace(self, embeddings=cells.embeddings, valid=cells.valid, wrap=wrap)

    def at(self, places: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Embeddings (n, dim) at places (n, 2), y and x, and whether anything is said there; zeros where not."""
        rows, cols, down, across = self._around(places)
        cells, valid = self.embeddings[rows, cols], self.valid[rows, cols]  # (2, 2, n, dim) and (2, 2, n): y, then x
        halves, known = _between(cells[:, 0], cells[:, 1], valid[:, 0], valid[:, 1], np.stack([across, across]))
        whole, any_known = _between(halves[0], halves[1], known[0], known[1], down)
        return np.where(any_known[:, None], whole, 0).astype(np.float32), any_known

    def near(self, place: NDArray[np.float64]) -> bool:
        """Whether any of the four cells around one place (1, 2) says anything."""
        rows, cols, _, _ = self._around(place)
        return bool(self.valid[rows, cols].any())

    def _around(
        self, places: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns (2, 2, n) of the four cells around each place, and how far it is between them."""
        y, down = self._along(0, places[:, 0])
        x, across = self._along(1, places[:, 1])
        rows, cols = np.broadcast_arrays(y[:, None], x[None, :])
        return rows, cols, down, across

    def _along(self, axis: int, places: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        count, joined = self.valid.shape[axis], self.wrap[axis]
        place = (places - self.origin[axis]) / self.step[axis]
        place = place if joined else np.clip(place, 0, count - 1)
        first = np.floor(place).astype(np.int64)
        both = np.stack([first, first + 1])
        return both % count if joined else np.minimum(both, count - 1), place - first


@dataclass(frozen=True, slots=True, eq=False)
class SlerpScene:
    """A grid of embeddings over a canvas of latents, as tokens of one interpolated embedding a window.

    A window in the middle of which a cell's centre lies is told that cell's embedding; others the interpolant of the
    four cells around their middle, first along x, then along y (Graikos et al. 2024). Beyond the outermost centres the
    edge is repeated. An invalid cell says nothing: it gives way to its neighbours, and where there is none either, the
    window's condition is the dropped one. Along an axis that wraps there is no outermost centre.
    """

    embeddings: NDArray[np.floating[Any]]  # (rows, cols, dim)
    valid: NDArray[np.bool_]  # (rows, cols)
    origin: tuple[float, float]  # y and x of the centre of cell (0, 0), in latents from the canvas' corner
    step: tuple[float, float]  # from one centre to the next, in latents
    embedder: TokenEmbedder
    wrap: Wrap = FLAT

    def __post_init__(self) -> None:
        dim = self.embedder.shape.patch
        if (
            self.embeddings.ndim != 3
            or self.embeddings.shape[2] != dim
            or self.embeddings.shape[:2] != self.valid.shape
        ):
            raise InputError(
                f"the grid is {self.embeddings.shape} with {self.valid.shape} cells, but this model was trained on "
                f"{dim}-d embeddings; embed with the encoder that it was trained with"
            )

    @classmethod
    def of(cls, grid: EmbeddingGrid, factor: int, embedder: TokenEmbedder) -> SlerpScene:
        """The scene of a grid on its own canvas, `factor` pixels a latent."""
        centre, step = grid.cell_px / 2 / factor, grid.stride_px / factor
        return cls(grid.embeddings, grid.valid, (centre, centre), (step, step), embedder)

    @classmethod
    def lattice(cls, embeddings: NDArray[np.floating[Any]], cell: int, embedder: TokenEmbedder) -> SlerpScene:
        """The scene of embeddings (rows, cols, dim) of cells of `cell` latents, side by side and all valid."""
        valid = np.ones(embeddings.shape[:2], bool)
        return cls(embeddings, valid, (cell / 2, cell / 2), (float(cell), float(cell)), embedder)

    @property
    def interpolant(self) -> Interpolant:
        """What the cells say at any place."""
        return Interpolant(self.embeddings, self.valid, self.origin, self.step, self.wrap)

    def joined(self, wrap: Wrap, shape: tuple[int, int]) -> SlerpScene:
        """The same scene on a canvas (height, width) that closes upon itself; what `Cells.closed` raises."""
        cells = self.interpolant.joined(wrap, shape)
        return replace(self, embeddings=cells.embeddings, valid=cells.valid, wrap=wrap)

    def condition(self, boxes: Sequence[Box]) -> TokenCondition:
        """The tokens of each window, and those of nothing said, on the embedder's device."""
        weight = self.embedder.patch.weight
        vectors = torch.from_numpy(self.embedding(boxes)).to(weight.device, weight.dtype)
        return self.embedder.condition(vectors)

    def covers(self, box: Box) -> bool:
        """Whether a window is told anything."""
        return self.interpolant.near(middles([box], 1))

    def embedding(self, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """The raw interpolated embedding (n, dim) of each window; zeros where nothing is said."""
        return self.interpolant.at(middles(boxes, 1))[0]


def middles(boxes: Sequence[Box], parts: int) -> NDArray[np.float64]:
    """The middles (n * parts * parts, 2), y and x, of equal parts of each box, row by row."""
    share = (np.arange(parts) + 0.5) / parts
    down, across = (grid.ravel() for grid in np.meshgrid(share, share, indexing="ij"))
    corner = np.array([(box.y, box.x) for box in boxes], np.float64)[:, None]
    size = np.array([box.shape for box in boxes], np.float64)[:, None]
    return np.asarray((corner + size * np.stack([down, across], axis=1)).reshape(-1, 2))


def _between(
    a: NDArray[Any], b: NDArray[Any], a_known: NDArray[np.bool_], b_known: NDArray[np.bool_], t: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Slerp where both are known, else the one that is, unless all the weight lies on the other."""
    a_known, b_known = a_known & (t < 1), b_known & (t > 0)
    one = np.where(a_known[..., None], a, b).astype(np.float64)
    other = np.where(b_known[..., None], b, one)
    return slerp(one, other, t), a_known | b_known
