"""The processes of one run: alone, or as many as torchrun started."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(days=7)  # a process whose slides are done waits for the others; a dead one is seen at once


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's rank among `count`; collective calls are no-ops alone."""

    rank: int = 0
    count: int = 1

    @classmethod
    @contextmanager
    def joined(cls, device: torch.device) -> Iterator[Processes]:
        """The group that torchrun describes in the environment, for as long as the context lasts.

        Tensors on CUDA go through nccl, others through gloo: the host's small talk does not wait for the device.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            yield cls()
            return
        # The defaults of its functions hold the group that lives when it is first imported, as optimisers do.
        # A group held so outlives `destroy_process_group`, and its threads abort the process as the interpreter ends.
        importlib.import_module("torch.distributed.nn.functional")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        try:
            yield cls(dist.get_rank(), count)
        finally:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place; one message for all, which are of one dtype."""
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

    def agree(self, flag: bool) -> bool:
        """Whether any process says yes: all of them then stop at the same step."""
        if self.count == 1:
            return flag
        said = torch.tensor(float(flag))
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said.item())

    def wait(self) -> None:
        """Until all have come here."""
        self.agree(False)
