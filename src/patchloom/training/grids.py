"""The embedding grids of a dataset as training sees them: cells around random windows, at random densities."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from patchloom.datasets.dataset import Dataset, Split
from patchloom.datasets.planes import Planes
from patchloom.diffusion.condition import GridCondition

_PART = 1 << 14  # cells
_SPREAD = 1e-3  # the least deviation: a number that never varies says nothing


@dataclass(frozen=True, slots=True)
class TrainingGrids:
    """The grids of all plots of a split in all views, one plane each, view by view."""

    cells: Planes
    valid: Planes
    origin: Tensor  # (planes, 2) y and x of the centre of cell (0, 0), in latents from the plane's corner
    step: float  # latents between centres

    @classmethod
    def read(cls, dataset: Dataset, split: Split, factor: int, device: torch.device) -> TrainingGrids:
        """Read every view of a split of a dataset whose latents are `factor` pixels wide."""
        views = dataset.record.views
        origin = [dataset.tensors(plot, [f"origin.{view}"])[0] for view in views for plot in dataset.plots(split)]
        return cls(
            dataset.pack(split, [f"cells.{view}" for view in views], device),
            dataset.pack(split, [f"valid.{view}" for view in views], device),
            torch.stack(origin).to(device) / factor,
            dataset.record.stride_px / factor,
        )

    def constants(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the valid cells, (dim,) float32 each; summed in parts, so that nothing is copied."""
        count = self.valid.values.sum()
        total, squares = torch.zeros(2, self.cells.values.shape[1], dtype=torch.float64, device=count.device)
        parts = (torch.split(planes.values, _PART) for planes in (self.cells, self.valid))
        for cells, valid in zip(*parts, strict=True):
            kept = torch.where(valid, cells.double(), 0.0)
            total += kept.sum(0)
            squares += kept.square().sum(0)
        if not count:
            return torch.zeros_like(total).float(), torch.ones_like(total).float()
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=_SPREAD**2)
        return mean.float(), variance.sqrt().float()

    def around(self, plane: Tensor, y: Tensor, x: Tensor, window: int, thinning: int, phase: Tensor) -> GridCondition:
        """The condition of windows at (y, x) (b,) latents of their planes.

        Only every `thinning`-th cell is kept, from `phase` (b, 2) on; beyond the last cells their values go on.
        """
        step = self.step * thinning
        axes = zip(
            (y, x), (self.cells.height[plane], self.cells.width[plane]), self.origin[plane].T, phase.T, strict=True
        )
        rows, cols = (self._cells(start, count, origin, off, window, thinning) for start, count, origin, off in axes)
        index = (rows[0], cols[0])
        return GridCondition(
            cells=self.cells.at(plane, *index),
            valid=self.valid.at(plane, *index)[..., 0],
            origin=torch.stack([rows[1], cols[1]], dim=1),
            step=torch.full((len(plane), 2), step, device=plane.device),
            dropped=torch.zeros(len(plane), dtype=torch.bool, device=plane.device),
        )

    def _cells(
        self, start: Tensor, count: Tensor, origin: Tensor, phase: Tensor, window: int, thinning: int
    ) -> tuple[Tensor, Tensor]:
        """Along one axis: the cells (b, n) that reach the window, and where the first one's centre lies in it (b,)."""
        step = self.step * thinning
        phase = torch.minimum(phase, count - 1)  # a plot of one cell has but that one to keep
        first_centre = origin + phase * self.step - start
        first = torch.floor((0.5 - first_centre) / step)
        number = first[:, None] + torch.arange(ceil((window - 1) / step) + 2, device=start.device)
        last = (count - 1 - phase) // thinning
        kept = number.long().clamp(min=0).minimum(last[:, None])
        return phase[:, None] + kept * thinning, (first_centre + first * step).float()
