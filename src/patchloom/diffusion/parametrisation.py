"""What a network predicts, and the one place that turns it into an expected clean image.

x = x0 + sigma * noise everywhere. A network sees `c_in * x` and a noise label, answers F, and
D = c_skip * x + c_out * F. With s = sigma and d = sigma_data:

| kind | c_skip | c_out | c_in | F's target |
|---|---|---|---|---|
| eps  | 1           | -s              | 1/sqrt(s²+1)  | noise |
| v    | 1/(s²+1)    | -s/sqrt(s²+1)   | 1/sqrt(s²+1)  | (noise - s x0) / sqrt(s²+1) |
| x0   | 0           | 1               | 1/sqrt(s²+1)  | x0 |
| flow | 1/(1+s)     | -s/(1+s)        | 1/(1+s)       | noise - x0 |
| edm  | d²/(s²+d²)  | s d/sqrt(s²+d²) | 1/sqrt(s²+d²) | (s x0/d - d noise) / sqrt(s²+d²) |

v is edm with d = 1, but for the sign of F.
Sources: Ho et al. (2020); Salimans & Ho (2022); Liu et al. (2022); Karras et al. (2022), table 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from patchloom.diffusion.levels import OFFICIAL_BETAS, Levels, Spacing, ddpm_table
from patchloom.errors import InputError

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
Kind = Literal["eps", "v", "x0", "flow", "edm"]


class Network(Protocol[C_contra]):
    """What a parametrisation wraps: scaled image, noise label (b,), condition to an answer of the image's shape."""

    def __call__(self, x: Tensor, label: Tensor, condition: C_contra) -> Tensor:
        """F of the table above, (b, c, h, w)."""
        ...


class Scalings(NamedTuple):
    """The three factors of one batch of noise levels, shaped like sigma."""

    skip: Tensor
    out: Tensor
    into: Tensor


@dataclass(frozen=True, slots=True)
class NoiseLabel:
    """How the network was told the noise level.

    log: log(sigma) / 4 (Karras et al. 2022), the default of continuous training.
    time: steps * t with rectified flow's t = sigma / (1 + sigma).
    ddpm: the (fractional) timestep of a DDPM table, interpolated in log sigma and held at the table's ends.
    `offset` is added at last: the official large-image loop asks its network for timestep + 1.
    """

    kind: Literal["log", "time", "ddpm"] = "log"
    steps: int = 1000
    beta_first: float = OFFICIAL_BETAS[0]
    beta_last: float = OFFICIAL_BETAS[1]
    offset: float = 0.0
    spacing: Spacing = "root"  # of the table's betas

    @property
    def table(self) -> Levels:
        """Sigma at each timestep of the DDPM table, ascending."""
        return ddpm_table(self.steps, self.beta_first, self.beta_last, self.spacing)

    def __call__(self, sigma: Tensor) -> Tensor:
        """Sigma (b,) to labels (b,)."""
        if self.kind == "log":
            return sigma.log() / 4 + self.offset
        if self.kind == "time":
            return self.steps * sigma / (1 + sigma) + self.offset
        table = _log_table(self, sigma.device, sigma.dtype)
        return _timestep(sigma.log(), table) + self.offset


@dataclass(frozen=True, slots=True)
class Parametrisation:
    """What a network predicts and how it was told the noise level; a plain record that pipelines keep."""

    kind: Kind = "v"
    sigma_data: float = 1.0
    label: NoiseLabel = field(default_factory=NoiseLabel)

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < float("inf") or (self.kind != "edm" and self.sigma_data != 1):
            raise InputError(
                f"sigma_data {self.sigma_data} does not fit `{self.kind}`: only `edm` has one, and it is positive"
            )

    def scalings(self, sigma: Tensor) -> Scalings:
        """The factors of the table, shaped like sigma."""
        return _SCALINGS[self.kind](sigma, self.sigma_data)

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the network should answer at x0 + sigma * noise; x0 and noise (b, c, h, w), sigma (b,)."""
        s, d = _column(sigma), self.sigma_data
        if self.kind == "eps":
            return noise
        if self.kind == "x0":
            return x0
        if self.kind == "flow":
            return noise - x0
        if self.kind == "v":
            return (noise - s * x0) / (s**2 + 1).sqrt()
        return (s / d * x0 - d * noise) / (s**2 + d**2).sqrt()


class Preconditioned(nn.Module, Generic[C]):
    """A network and its parametrisation as a denoiser.

    The image and the three factors stay in x's dtype (float32); the network is given its own weights' dtype.
    """

    def __init__(self, network: Network[C], parametrisation: Parametrisation) -> None:
        super().__init__()
        self.network = network
        self.parametrisation = parametrisation

    def forward(self, x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        """Expected x0 (b, c, h, w) of x (b, c, h, w) at sigma (b,)."""
        skip, out, _ = (_column(factor) for factor in self.parametrisation.scalings(sigma))
        return skip * x + out * self.answer(x, sigma, condition)

    def answer(self, x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        """The network's own F at x, in x's dtype."""
        scaled = _column(self.parametrisation.scalings(sigma).into) * x
        answer = self.network(scaled.to(self._dtype(x)), self.parametrisation.label(sigma), condition)
        return answer.to(x.dtype)

    def _dtype(self, x: Tensor) -> torch.dtype:
        weights = self.network.parameters() if isinstance(self.network, nn.Module) else iter(())
        return next((weight.dtype for weight in weights if weight.is_floating_point()), x.dtype)


def _column(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]


def _eps(s: Tensor, _: float) -> Scalings:
    return Scalings(torch.ones_like(s), -s, (s**2 + 1).rsqrt())


def _v(s: Tensor, _: float) -> Scalings:
    into = (s**2 + 1).rsqrt()
    return Scalings(1 / (s**2 + 1), -s * into, into)


def _x0(s: Tensor, _: float) -> Scalings:
    return Scalings(torch.zeros_like(s), torch.ones_like(s), (s**2 + 1).rsqrt())


def _flow(s: Tensor, _: float) -> Scalings:
    return Scalings(1 / (1 + s), -s / (1 + s), 1 / (1 + s))


def _edm(s: Tensor, d: float) -> Scalings:
    into = (s**2 + d**2).rsqrt()
    return Scalings(d**2 / (s**2 + d**2), s * d * into, into)


_SCALINGS: dict[Kind, Callable[[Tensor, float], Scalings]] = {
    "eps": _eps,
    "v": _v,
    "x0": _x0,
    "flow": _flow,
    "edm": _edm,
}


@lru_cache(maxsize=16)
def _log_table(label: NoiseLabel, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(label.table).log().to(device, dtype)


def _timestep(place: Tensor, table: Tensor) -> Tensor:
    """Where `place` lies in an ascending table, as a fractional index.

    Logarithms in float32 miss a table's own levels by some 1e-4; those get their whole number back, because the
    network was trained on whole numbers and its embedding turns once a timestep.
    """
    upper = torch.searchsorted(table, place.contiguous()).clamp(1, len(table) - 1)
    low, high = table[upper - 1], table[upper]
    index = (upper - 1 + (place - low) / (high - low)).clamp(0, len(table) - 1)
    whole = index.round()
    return torch.where((index - whole).abs() < 1e-3, whole, index)
