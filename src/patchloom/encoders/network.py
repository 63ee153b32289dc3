"""An encoder made of a transform and a network: where the device, the memory layout and autocast are decided."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.pixels import Transform
from patchloom.errors import FormatError, InputError


def width(network: nn.Module, embed: Callable[[Tensor], Tensor], input_px: int, name: str) -> int:
    """Length of the embedding of one black picture; FormatError where the network does not take such a picture."""
    network.eval()
    try:
        with torch.no_grad():
            embedding = embed(torch.zeros(1, 3, input_px, input_px))
    except (RuntimeError, ValueError) as error:
        raise FormatError(f"encoder `{name}` does not take pictures of {input_px} px: {error!s:.300}") from error
    if embedding.ndim != 2:
        raise FormatError(
            f"encoder `{name}` gives an array of shape {tuple(embedding.shape)}, not one vector a picture"
        )
    return int(embedding.shape[1])


class NetworkEncoder:
    """An `Encoder` over a frozen torch module.

    `embed` maps the module's own input, float (b, 3, crop_px, crop_px), to (b, dim). With a dtype other than float32
    the module runs under autocast; embeddings leave as float32 all the same. Gradients are off.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        network: nn.Module,
        transform: Transform,
        embed: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise InputError(f"an encoder computes in float32, bfloat16 or float16, not {dtype}")
        self._spec = spec
        self._network = network
        self._transform = transform
        self._embed = embed
        self._device = torch.device(device)
        self._dtype = dtype
        network.eval().requires_grad_(False)
        # Convolutions are fastest with channels innermost, by far in bf16.
        network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def spec(self) -> EncoderSpec:
        """Who it is; grids carry it, pipelines check it."""
        return self._spec

    @property
    def transform(self) -> Transform:
        """What happens to pixels before the network sees them."""
        return self._transform

    @property
    def embed(self) -> Callable[[Tensor], Tensor]:
        """What the network makes of pictures that the transform gave: float (b, 3, crop_px, crop_px) to (b, dim)."""
        return self._embed

    def saying(self, spec: EncoderSpec, embed: Callable[[Tensor], Tensor]) -> NetworkEncoder:
        """Another encoder over the same network, on the same device."""
        return NetworkEncoder(spec, self._network, self._transform, embed, device=self._device, dtype=self._dtype)

    @property
    def device(self) -> torch.device:
        """Where the network lives; pixels are moved there."""
        return self._device

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h, h) to float32 (b, dim), on the encoder's device. Raises InputError on other pixels."""
        with torch.no_grad():
            return self._embeddings(self._transform(pixels.to(self._device)))

    def followed(self, pixels: Tensor) -> Tensor:
        """Float pixels (b, 3, h, h) from 0 to 255, as a decoder gives them, to embeddings that lead back to them.

        For gradients at pixels; rounded pixels have the embeddings that the encoder gives them.
        """
        return self._embeddings(self._transform.of_floats(pixels.to(self._device)))

    def _embeddings(self, picture: Tensor) -> Tensor:
        picture = picture.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
            embeddings = self._embed(picture)
        if embeddings.ndim != 2 or embeddings.shape[1] != self._spec.dim:
            raise FormatError(
                f"encoder `{self._spec.name}` says {self._spec.dim}-d embeddings, "
                f"its network gave an array of shape {tuple(embeddings.shape)}"
            )
        return embeddings.float()
