"""Encoders by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch

from patchloom.encoders.efficientnet import efficientnet_lite0
from patchloom.encoders.encoder import Encoder
from patchloom.errors import InputError

DEFAULT = "efficientnet-lite0"

ENCODERS: dict[str, Callable[[torch.device | str, torch.dtype], Encoder]] = {
    DEFAULT: efficientnet_lite0,
}


def load_encoder(
    name: str = DEFAULT, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Encoder:
    """The encoder called `name`, its network on `device`, computing in `dtype` (float32, bfloat16 or float16).

    Embeddings are float32 whatever the dtype. Raises InputError for a name that nobody has.
    """
    if name in ENCODERS:
        return ENCODERS[name](device, dtype)
    near = difflib.get_close_matches(name, ENCODERS, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(ENCODERS)}"
    raise InputError(f"there is no encoder `{name}`; {hint}")
