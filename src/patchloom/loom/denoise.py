"""The work of a meeting: denoise windows, update their state, and do so again while they stay alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.stage import Stage, State
from patchloom.diffusion.windows import Scene
from patchloom.errors import GeometryError
from patchloom.fields.field import Field
from patchloom.fields.noise import Noise
from patchloom.fields.views import around
from patchloom.geometry import OPEN, Box, Frame, Period, Window
from patchloom.loom.keep import Kept
from patchloom.loom.ring import copies

C = TypeVar("C", bound=Condition)
NoiseOf: TypeAlias = Callable[[int, int, Frame], Field]
"""Seed, stream and frame to standard normals: 0 is what a run starts from, 1 + k what stage k adds."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What lies where nothing is conditioned: a latent, and which windows are told something else.

    A window that is not covered is not evaluated: its expected clean image is `latent` everywhere, and its state is
    updated with that, so its neighbours see noise of the right level in their halo.
    """

    latent: NDArray[np.float32]  # (channels,)
    covers: Callable[[Box], bool]


def is_idle(window: Window, background: Background | None, kept: Kept | None, period: Period = OPEN) -> bool:
    """Whether a window's answer needs no network: nothing is conditioned there, or nothing of its core is made anew."""
    if kept is not None and not any(copies(kept.region, window.core, period)):
        return True
    return background is not None and not background.covers(window.box)


@dataclass(frozen=True, slots=True, eq=False)
class Denoise(Generic[C]):
    """Some stages in a row inside windows, as the work of a weave. States are float32 at rest and in their updates.

    A field of states holds planes x channels channels, plane by plane; the first plane is the image.
    """

    denoiser: Denoiser[C]
    stages: Sequence[Stage]
    first: int  # number of stages[0] in the run: stage k draws its noise from stream 1 + k
    scene: Scene[C]
    latents: Frame  # of the image alone
    seed: int
    batch: int
    device: torch.device
    dtype: torch.dtype = torch.float32  # of the condition; the image is given in float32, networks round it themselves
    background: Background | None = None
    kept: Kept | None = None
    planes: int = 1  # of the states that come in
    noise: NoiseOf = Noise
    period: Period = OPEN  # after how many latents the canvas begins anew

    def frame(self, source: Frame) -> Frame:
        """The state after the last stage, float32."""
        if source.channels % self.latents.channels:
            raise GeometryError(f"a state of {source.channels} channels is no planes of {self.latents.channels}")
        return replace(source, channels=self.stages[-1].planes * self.latents.channels, dtype="float32")

    def idle(self, window: Window) -> bool:
        """Whether the window is background or kept, and no network is asked."""
        return is_idle(window, self.background, self.kept, self.period)

    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[np.float32]:
        """States of windows of one kind, (batch, planes * channels, h, w), before and after the stages."""
        with torch.no_grad():
            planes = torch.from_numpy(arrays).to(self.device).chunk(arrays.shape[1] // self.latents.channels, dim=1)
            state = self._through_the_stages(planes, windows)
            answer: NDArray[np.float32] = torch.cat(state, dim=1).float().cpu().numpy()
        return answer

    def _through_the_stages(self, state: State, windows: Sequence[Window]) -> State:
        expected = self._estimator(windows)
        for number, stage in enumerate(self.stages, start=self.first):
            noise = self._noise(number, windows) if stage.noisy else None
            state = stage.update(state, expected(state[0], stage.sigma), noise)
        return state

    def _estimator(self, windows: Sequence[Window]) -> Callable[[Tensor, float], Tensor]:
        """(x, sigma) -> D for these windows: what is kept of them, and an estimate of the rest."""
        estimate = self._background() if self.idle(windows[0]) else self._network(windows)
        if self.kept is None:
            return estimate
        values, places = (torch.from_numpy(part).to(self.device) for part in self.kept.of(windows, self.period))
        return lambda x, sigma: _with_kept(values, places, estimate(x, sigma))

    def _background(self) -> Callable[[Tensor, float], Tensor]:
        flat = self.background.latent if self.background is not None else np.zeros(self.latents.channels, np.float32)
        latent = torch.from_numpy(flat)[None, :, None, None]
        return lambda x, sigma: latent.to(x).expand_as(x)

    def _network(self, windows: Sequence[Window]) -> Callable[[Tensor, float], Tensor]:
        condition = self.scene.condition([window.box for window in windows]).to(self.device, self.dtype)
        return lambda x, sigma: self.denoiser(x, x.new_full((len(x),), sigma), condition).to(x.dtype)

    def _noise(self, number: int, windows: Sequence[Window]) -> Tensor:
        noise = around(self.noise(self.seed, 1 + number, self.latents), self.period)
        return torch.from_numpy(np.stack([noise.read(window.box) for window in windows])).to(self.device)


def _with_kept(values: Tensor, places: Tensor, D: Tensor) -> Tensor:
    """D with kept latents in their places; of what else a denoiser says in further channels, nothing there."""
    return torch.where(places, F.pad(values, (0, 0, 0, 0, 0, D.shape[1] - values.shape[1])), D)
