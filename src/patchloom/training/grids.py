"""The embedding grids of a dataset as training sees them: cells around random windows, at random densities."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from patchloom.diffusion.condition import GridCondition
from patchloom.training.dataset import Dataset, Split
from patchloom.training.planes import Planes


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
        cells, valid, origin = [], [], []
        for view in dataset.record.views:
            for plot in dataset.plots(split):
                parts = dataset.tensors(plot, [f"cells.{view}", f"valid.{view}", f"origin.{view}"])
                cells.append(parts[0])
                valid.append(parts[1][..., None])
                origin.append(parts[2] / factor)
        return cls(
            Planes.pack(cells).to(device),
            Planes.pack(valid).to(device),
            torch.stack(origin).to(device),
            dataset.record.stride_px / factor,
        )

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
