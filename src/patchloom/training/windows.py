"""Windows of a split's latents, anywhere in their plots, with what the embedding grid says under and around them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from patchloom.datasets.dataset import Dataset, Split
from patchloom.datasets.planes import Planes
from patchloom.diffusion.condition import GridCondition
from patchloom.errors import InputError
from patchloom.training.draws import Draws
from patchloom.training.grids import TrainingGrids


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one size. A datum is one window's worth of a plane's area."""

    latents: Planes
    grids: TrainingGrids
    side: int  # of a window, latents
    strides: tuple[int, ...]  # to which the grid is thinned, one of them for each step
    planes: Tensor  # (data,) the plane of each datum

    @classmethod
    def read(
        cls,
        dataset: Dataset,
        split: Split,
        factor: int,
        side: int,
        strides: tuple[int, ...],
        device: torch.device,
    ) -> Windows:
        """The windows of every plot of a split in every view. Raises InputError where no plot is as large as one."""
        latents = dataset.pack(split, [f"latents.{view}" for view in dataset.record.views], device)
        grids = TrainingGrids.read(dataset, split, factor, device)
        return cls(latents, grids, side, strides, _data(latents, side))

    def of(self, side: int) -> Windows:
        """Windows of another size of the same planes."""
        return replace(self, side=side, planes=_data(self.latents, side))

    def __len__(self) -> int:
        return len(self.planes)

    def instead_of(self, smaller: Windows, index: Tensor) -> Tensor:
        """Data of these windows for data (b,) of smaller ones: so many that the area is about the same, one at least.

        Planes too small for these windows give way to others.
        """
        count = max(1, len(index) * smaller.side**2 // self.side**2)
        return index[:count] * len(self) // len(smaller)

    def draw(self, index: Tensor, draws: Draws) -> tuple[Tensor, GridCondition]:
        """One window (b, channels, side, side) anywhere in each datum's plane, and its condition."""
        generator, device = draws.device, index.device
        plane = self.planes[index]
        place = torch.rand(2, len(index), generator=generator, device=device)
        y = (place[0] * (self.latents.height[plane] - self.side + 1)).long()
        x = (place[1] * (self.latents.width[plane] - self.side + 1)).long()
        thinning = draws.host.choice(self.strides)
        phase = torch.randint(thinning, (len(index), 2), generator=generator, device=device)
        crops = self.latents.crops(plane, y, x, self.side, self.side).float()
        return crops, self.grids.around(plane, y, x, self.side, thinning, phase)


def _data(latents: Planes, side: int) -> Tensor:
    """The plane of each datum: as many data of a plane as windows fit its area, none of one smaller than a window."""
    fits = (latents.height >= side) & (latents.width >= side)
    shares = torch.where(fits, (latents.height * latents.width // side**2).clamp(min=1), 0)
    planes = torch.arange(len(latents), device=shares.device).repeat_interleave(shares)
    if not len(planes):
        raise InputError(
            f"no plot of the dataset is as large as a window of {side} latents; ask for a smaller `window`, or "
            "prepare larger plots"
        )
    return planes
