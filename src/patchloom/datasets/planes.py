"""Many planes of different sizes in one flat tensor, so that a batch of crops is one gather on any device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from patchloom.errors import InputError


@dataclass(frozen=True, slots=True)
class Planes:
    """Planes (height, width, channels) laid end to end.

    A crop is a gather of rows of `values`, channels last, which is the layout that convolutions like best.
    """

    values: Tensor  # (sum of height * width, channels)
    start: Tensor  # (planes,) int64, the first row of each plane
    height: Tensor  # (planes,) int64
    width: Tensor  # (planes,) int64

    @classmethod
    def pack(cls, planes: Iterable[Tensor], sizes: Sequence[tuple[int, int]], device: torch.device) -> Planes:
        """Pack tensors (height, width, channels) of one dtype and one number of channels, and of these sizes.

        They are taken one by one, so the host never holds them all. Raises InputError where there is none.
        """
        height, width = torch.tensor(sizes).T.contiguous()
        stop = (height * width).cumsum(0)
        start = stop - height * width
        values: Tensor | None = None
        for plane, first, end in zip(planes, start.tolist(), stop.tolist(), strict=True):
            if values is None:
                values = torch.empty(int(stop[-1]), plane.shape[-1], dtype=plane.dtype, device=device)
            values[first:end] = plane.reshape(-1, plane.shape[-1])
        if values is None:
            raise InputError("there are no planes to pack")
        return cls(values, start.to(device), height.to(device), width.to(device))

    def __len__(self) -> int:
        return self.start.shape[0]

    def crops(self, plane: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
        """(b, channels, height, width) in channels-last memory: the crop at (y, x) of each named plane."""
        device = self.values.device
        rows = y[:, None] + torch.arange(height, device=device)
        cols = x[:, None] + torch.arange(width, device=device)
        return self.at(plane, rows, cols).permute(0, 3, 1, 2)

    def at(self, plane: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """(b, height, width, channels): the named rows (b, height) and columns (b, width) of each named plane (b,).

        Rows and columns outside a plane repeat its edge.
        """
        rows = rows.clamp(min=0).minimum(self.height[plane][:, None] - 1)
        cols = cols.clamp(min=0).minimum(self.width[plane][:, None] - 1)
        places = self.start[plane][:, None, None] + rows[:, :, None] * self.width[plane][:, None, None] + cols[:, None]
        return self.values[places]
