"""The processes of one run: alone, or as many as torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's rank among `count`; collective calls are no-ops alone."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Join the group that torchrun describes in the environment (nccl on CUDA, gloo elsewhere)."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place; one message for all of one dtype."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def same(self, tensors: list[Tensor]) -> None:
        """Give every process the leader's tensors, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agree(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says yes: all of them then stop at the same step."""
        if self.count == 1:
            return flag
        said = torch.tensor(float(flag), device=device)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said.item())

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()

    def leave(self) -> None:
        """Leave the group."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
