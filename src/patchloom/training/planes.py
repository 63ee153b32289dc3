"""Many planes of different sizes in one flat tensor, so that a batch of crops is one gather on any device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
    def pack(cls, planes: list[Tensor]) -> Planes:
        """Pack tensors (height, width, channels) of one dtype and one number of channels."""
        sizes = torch.tensor([(plane.shape[0], plane.shape[1]) for plane in planes])
        ends = (sizes[:, 0] * sizes[:, 1]).cumsum(0)
        start = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
        values = torch.cat([plane.reshape(-1, plane.shape[-1]) for plane in planes])
        return cls(values, start, sizes[:, 0].contiguous(), sizes[:, 1].contiguous())

    def __len__(self) -> int:
        return self.start.shape[0]

    def to(self, device: torch.device) -> Planes:
        """The same planes on a device."""
        return Planes(*(part.to(device) for part in (self.values, self.start, self.height, self.width)))

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
