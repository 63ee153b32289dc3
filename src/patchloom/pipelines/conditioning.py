"""How each kind of denoiser is told about a grid: at every latent, or by tokens once a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.diffusion.condition import Condition, GridCondition
from patchloom.diffusion.guidance_pair import Both
from patchloom.diffusion.windows import Scene
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.cell_tokens import CellTokenScene
from patchloom.loom.ring import Wrap
from patchloom.loom.scene import GridScene
from patchloom.loom.slerp import Interpolant, SlerpScene
from patchloom.networks.ldm_tokens import TokenCondition, TokenEmbedder
from patchloom.networks.transformer_files import Transformer

C_co = TypeVar("C_co", bound=Condition, covariant=True)
K = TypeVar("K", bound=Condition)
L = TypeVar("L", bound=Condition)
Place: TypeAlias = tuple[float, float]
Embeddings: TypeAlias = NDArray[np.floating[Any]]


class CellScene(Scene[C_co], Protocol[C_co]):
    """The scene of a grid, which knows where the grid says nothing."""

    def covers(self, box: Box) -> bool:
        """Whether a window is told anything."""
        ...

    def joined(self, wrap: Wrap, shape: tuple[int, int]) -> CellScene[C_co]:
        """The same scene on a canvas (height, width) whose edges are joined. Raises InputError where cells do not."""
        ...


class Conditioning(Protocol[C_co]):
    """From embeddings to what a denoiser is told."""

    def scene(self, grid: EmbeddingGrid) -> CellScene[C_co]:
        """A grid on its own canvas."""
        ...

    def over(self, embeddings: Embeddings, valid: NDArray[np.bool_], origin: Place, step: Place) -> CellScene[C_co]:
        """Cells (rows, cols, dim): the centre of the first one (y, x), and from one to the next, in latents."""
        ...

    def patches(self, embeddings: Embeddings) -> C_co:
        """One embedding (n, dim) for the whole of each of n patches."""
        ...


@dataclass(frozen=True, slots=True)
class ByCells:
    """Our own denoisers: told at every latent what the cells around it say."""

    factor: int  # pixels a latent
    cell_px: int
    pixel_size: PixelSize
    device: torch.device

    def scene(self, grid: EmbeddingGrid) -> GridScene:
        """A grid on its own canvas."""
        return GridScene.of(grid, self.factor, self.pixel_size)

    def over(self, embeddings: Embeddings, valid: NDArray[np.bool_], origin: Place, step: Place) -> GridScene:
        """Cells over a canvas."""
        return GridScene(embeddings, valid, origin, step)

    def patches(self, embeddings: Embeddings) -> GridCondition:
        """The same embedding at every latent of a patch."""
        cells = torch.from_numpy(np.asarray(embeddings, np.float32))[:, None, None].to(self.device)
        n, step = len(embeddings), self.cell_px / self.factor
        return GridCondition(
            cells,
            torch.ones(n, 1, 1, dtype=torch.bool, device=self.device),
            torch.full((n, 2), step / 2, device=self.device),
            torch.full((n, 2), step, device=self.device),
            torch.zeros(n, dtype=torch.bool, device=self.device),
        )


@dataclass(frozen=True, slots=True)
class ByTokens:
    """The paper's denoisers: told one embedding a window, the slerp of the cells around its middle."""

    factor: int  # pixels a latent
    embedder: TokenEmbedder

    def scene(self, grid: EmbeddingGrid) -> SlerpScene:
        """A grid on its own canvas."""
        return SlerpScene.of(grid, self.factor, self.embedder)

    def over(self, embeddings: Embeddings, valid: NDArray[np.bool_], origin: Place, step: Place) -> SlerpScene:
        """Cells over a canvas."""
        return SlerpScene(embeddings, valid, origin, step, self.embedder)

    def patches(self, embeddings: Embeddings) -> TokenCondition:
        """The tokens of each embedding."""
        weight = self.embedder.patch.weight
        return self.embedder.condition(torch.from_numpy(np.asarray(embeddings, np.float32)).to(weight))


@dataclass(frozen=True, slots=True)
class ByCellTokens:
    """Transformers: told a token for each cell that a window is made of, or one for the whole."""

    factor: int  # pixels a latent
    network: Transformer

    def scene(self, grid: EmbeddingGrid) -> CellTokenScene:
        """A grid on its own canvas."""
        return CellTokenScene.of(grid, self.factor, self.network)

    def over(self, embeddings: Embeddings, valid: NDArray[np.bool_], origin: Place, step: Place) -> CellTokenScene:
        """Cells over a canvas."""
        return CellTokenScene(Interpolant(embeddings, valid, origin, step), self.network)

    def patches(self, embeddings: Embeddings) -> TokenCondition:
        """Every cell of a patch is told the same."""
        tokens = self.network.shape.tokens
        said = torch.from_numpy(np.asarray(embeddings, np.float32))[:, None].expand(-1, tokens, -1)
        return self.network.condition(said, torch.ones(len(said), tokens, dtype=torch.bool))


@dataclass(frozen=True, slots=True)
class BothScene(Generic[K, L]):
    """What a denoiser is told about a canvas, and what a worse one is."""

    own: CellScene[K]
    worse: CellScene[L]

    def condition(self, boxes: Sequence[Box]) -> Both[K, L]:
        """What windows of one shape are told."""
        return Both(self.own.condition(boxes), self.worse.condition(boxes))

    def covers(self, box: Box) -> bool:
        """Whether a window is told anything."""
        return self.own.covers(box)

    def joined(self, wrap: Wrap, shape: tuple[int, int]) -> BothScene[K, L]:
        """Both on a canvas (height, width) whose edges are joined."""
        return BothScene(self.own.joined(wrap, shape), self.worse.joined(wrap, shape))


@dataclass(frozen=True, slots=True)
class ByBoth(Generic[K, L]):
    """A denoiser and a worse one that guides it, each told in its own way."""

    own: Conditioning[K]
    worse: Conditioning[L]

    def scene(self, grid: EmbeddingGrid) -> BothScene[K, L]:
        """A grid on its own canvas."""
        return BothScene(self.own.scene(grid), self.worse.scene(grid))

    def over(self, embeddings: Embeddings, valid: NDArray[np.bool_], origin: Place, step: Place) -> BothScene[K, L]:
        """Cells over a canvas."""
        cells = embeddings, valid, origin, step
        return BothScene(self.own.over(*cells), self.worse.over(*cells))

    def patches(self, embeddings: Embeddings) -> Both[K, L]:
        """One embedding for the whole of each patch."""
        return Both(self.own.patches(embeddings), self.worse.patches(embeddings))
