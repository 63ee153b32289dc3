"""What a measurement says: a value with its N, its interval, its floor and whatever the reader must know beside it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

from patchloom.errors import InputError


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value would lie, in `level` of all repetitions of the experiment, and how that was found."""

    low: float
    high: float
    level: float
    method: str  # such as `bootstrap, 1000 resamples of 480 rows`

    def contains(self, value: float) -> bool:
        """Whether a value lies inside, ends included."""
        return self.low <= value <= self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return not self.contains(0.0)


@dataclass(frozen=True, slots=True)
class Floor:
    """What the same measurement says of real images against other real images, with as many of them."""

    value: float  # mean over the splits
    low: float  # smallest and largest of the splits: their spread, not an interval of the mean
    high: float
    n: int  # images on each side
    splits: int
    what: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """One measured number. It is finite or it does not exist: what cannot be computed is an `Absent`."""

    value: float
    n: tuple[int, ...]  # samples of each side, the reference first
    interval: Interval | None = None
    floor: Floor | None = None
    how: str = ""  # settings that the number depends on
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise InputError(f"a measurement must be a finite number, not {self.value}; report it as absent instead")


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """The network that turned images into vectors, and how images were brought to its size."""

    network: str
    digest: str  # of the weights
    dim: int
    resizer: str  # such as `antialiased bicubic to 224 px`


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: which images, how many, and what they went through as files."""

    name: str
    n: int
    codec: str  # such as `png`, `jpeg`, `none (arrays)`; several joined by ` + `


@dataclass(frozen=True, slots=True)
class Figure:
    """A named estimate with everything that it depends on, as a report prints it."""

    name: str
    estimate: Estimate
    space: FeatureSpace | None  # None where no feature network is involved
    sides: tuple[Side, ...]  # the reference first


@dataclass(frozen=True, slots=True)
class Absent:
    """A figure that was asked for and cannot be computed, with the reason."""

    name: str
    reason: str


Entry: TypeAlias = Figure | Absent
