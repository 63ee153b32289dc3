"""Plans: how windows and their cores lie at each step. Pure geometry, no network.

    halo     cores partition the canvas; a window is its core and a halo on each side
    shift    halo without a halo
    average  windows a stride apart, all of each kept, blended with uniform or Gaussian weights (Graikos et al. 2024)

Windows are clamped into the canvas, so all windows of a lattice have one shape. Cores at the canvas' edge are longer,
up to window - halo: no halo is needed where nothing lies beyond. Along an axis that wraps there is no edge: windows go
over the joined border, and a canvas shorter than a window is seen more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, gcd
from typing import Literal

from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Lattice, Span
from patchloom.loom.ring import FLAT, Wrap, periods

Kind = Literal["halo", "shift", "average"]
Profile = Literal["uniform", "gaussian"]

# How far borders move between meetings, in cores: sqrt 2 - 1 down and the golden section, (sqrt 5 - 1) / 2, across, as
# integers of 32 bits: the same borders on every machine. Multiples of a badly approximable number spread evenly and
# come back near a line late; of those tried with the exact oracle (docs/benchmarks.md) these two leave least of a seam.
_ONE = 1 << 32
_STEPS = (1779033703, 2654435769)


def halo(
    canvas: tuple[int, int],
    window: int,
    core: int,
    origin: tuple[int, int] = (0, 0),
    multiple: int = 1,
    wrap: Wrap = FLAT,
) -> Lattice:
    """Cores that partition a canvas (height, width), each in a window with (window - core) / 2 around it.

    Borders between cores lie at `origin` plus whole multiples of `core`. Windows are multiples of `multiple` wherever
    the canvas is as long as that. Raises GeometryError for sizes that do not fit.
    """
    _check(canvas, window, core, multiple, "core")
    rows, cols = (
        _ring_spans(length, window, core, place)
        if joined
        else _halo_spans(length, *_fitted(length, window, core, multiple), place)
        for length, place, joined in zip(canvas, origin, wrap, strict=True)
    )
    return Lattice(rows, cols, period=periods(canvas, wrap))


def shift(canvas: tuple[int, int], window: int, origin: tuple[int, int] = (0, 0), multiple: int = 1) -> Lattice:
    """Windows that partition the canvas; one that the edge would cut is moved inside and keeps its own part alone."""
    return halo(canvas, window, window, origin, multiple)


def average(
    canvas: tuple[int, int],
    window: int,
    stride: int,
    profile: Profile = "uniform",
    multiple: int = 1,
    wrap: Wrap = FLAT,
) -> Lattice:
    """Windows `stride` apart, the last against the far edge, blended with the profile's weights."""
    _check(canvas, window, stride, multiple, "stride")
    rows, cols = (
        _laid(range(0, length, stride), window)
        if joined
        else _average_spans(length, *_fitted(length, window, stride, multiple))
        for length, joined in zip(canvas, wrap, strict=True)
    )
    return Lattice(rows, cols, None if profile == "uniform" else gaussian(window), periods(canvas, wrap))


def gaussian(window: int) -> tuple[float, ...]:
    """Weights of a window's rows or columns: a bell of deviation window / 4 around its middle."""
    middle = (window - 1) / 2
    return tuple(exp(-(((k - middle) / (window / 4)) ** 2) / 2) for k in range(window))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Window and core, in latents, at noise levels above `above`. For `average` the core is the stride."""

    above: float
    window: int
    core: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The lattices of a whole run. `sizes` is a table by falling `above`, and its last row is above 0.

    `moving` gives every meeting another origin, so that no line is a border twice in a row; `average` stands still.
    `sync` is the number of stages that a window runs alone between two meetings with its neighbours. `wrap` joins the
    lower edge to the upper one, and the right edge to the left one.
    Raises InputError where the parts do not fit one another.
    """

    kind: Kind
    sizes: tuple[Sizes, ...]
    moving: bool = True
    profile: Profile = "uniform"
    multiple: int = 1
    sync: int = 1
    wrap: Wrap = FLAT

    def __post_init__(self) -> None:
        levels = [size.above for size in self.sizes]
        if not levels or levels[-1] != 0 or levels != sorted(set(levels), reverse=True):
            raise InputError(f"a plan's sizes go from high noise to low and end above sigma 0, not {levels}")
        for size in self.sizes:
            _check((1, 1), size.window, size.core, self.multiple, "core")
            if self.kind == "shift" and size.core != size.window:
                raise InputError(f"plan `shift` keeps whole windows: core {size.core} must equal window {size.window}")
        if self.sync < 1:
            raise InputError(f"sync counts stages between two meetings: at least 1, not {self.sync}")

    @classmethod
    def of(
        cls, kind: Kind, window: int, core: int | None = None, *, multiple: int = 1, sync: int = 1, wrap: Wrap = FLAT
    ) -> Plan:
        """One size at every noise level. Without a core: 3/4 of the window for halo, a stride of 1/4 for average."""
        usual = {"halo": window * 3 // 4, "shift": window, "average": window // 4}
        size = Sizes(0.0, window, usual[kind] if core is None else core)
        return cls(kind, (size,), multiple=multiple, sync=sync, wrap=wrap)

    def size(self, sigma: float) -> Sizes:
        """The window and core at a noise level."""
        return next((size for size in self.sizes if sigma > size.above), self.sizes[-1])

    def lattices(self, canvas: tuple[int, int], sigmas: Sequence[float]) -> list[Lattice]:
        """One lattice a meeting, for a canvas (height, width) in latents; `sigmas` are the levels at the meetings."""
        sizes = [self.size(sigma) for sigma in sigmas]
        places = origins([size.core for size in sizes]) if self.moving else [(0, 0)] * len(sizes)
        if self.kind == "average":
            return [average(canvas, size.window, size.core, self.profile, self.multiple, self.wrap) for size in sizes]
        return [
            halo(canvas, size.window, size.core, place, self.multiple, self.wrap)
            for size, place in zip(sizes, places, strict=True)
        ]


def origins(cores: Sequence[int]) -> list[tuple[int, int]]:
    """Where borders lie (y, x, modulo the core) at each meeting: evenly spread, none twice in a row.

    Where neighbouring cores have no common divisor, some lines of the two lattices meet whatever the origins are.
    """
    found: list[tuple[int, int]] = []
    for number, core in enumerate(cores):
        y, x = (((_ONE // 2 + number * step) % _ONE * core) >> 32 for step in _STEPS)
        if found:
            before, share = found[-1], gcd(core, cores[number - 1])
            y, x = _apart(y, before[0], share, core), _apart(x, before[1], share, core)
        found.append((y, x))
    return found


def _apart(place: int, before: int, share: int, core: int) -> int:
    return (place + 1) % core if share > 1 and (place - before) % share == 0 else place


def _check(canvas: tuple[int, int], window: int, core: int, multiple: int, name: str) -> None:
    if min(canvas) < 1:
        raise GeometryError(f"a canvas of {canvas[0]} x {canvas[1]} latents (height x width) is empty")
    if not 1 <= core <= window:
        raise GeometryError(f"{name} {core} must lie between 1 and the window, {window}")
    if multiple < 1 or window % multiple:
        below = max(window - window % max(multiple, 1), multiple)
        raise GeometryError(
            f"window {window} is no multiple of {multiple}, which the network needs; the nearest are "
            f"{below} and {below + multiple}"
        )


def _fitted(length: int, window: int, core: int, multiple: int) -> tuple[int, int]:
    """Window and core for an axis that may be shorter than the window; the core shrinks in proportion."""
    if length >= window:
        return window, core
    inner = length - length % multiple or length
    return inner, max(core * inner // window, 1)


def _halo_spans(length: int, window: int, core: int, origin: int) -> tuple[Span, ...]:
    if window >= length:
        return (Span(0, length, 0, length),)
    margin = (window - core) // 2
    longest = window - margin  # of a core at an edge
    borders = [0, longest - (longest - origin) % core]
    while length - borders[-1] > longest:
        borders.append(borders[-1] + core)
    starts = [min(max(border - margin, 0), length - window) for border in borders]
    stops = [*borders[1:], length]
    return tuple(Span(start, start + window, a, b) for start, a, b in zip(starts, borders, stops, strict=True))


def _ring_spans(length: int, window: int, core: int, origin: int) -> tuple[Span, ...]:
    """Cores from one border at `origin` round to itself; the last is what is left."""
    core = min(core, length)
    margin = (window - core) // 2
    borders = [*range(origin % core, origin % core + length, core), origin % core + length]
    return tuple(Span(a - margin, a - margin + window, a, b) for a, b in pairwise(borders))


def _average_spans(length: int, window: int, stride: int) -> tuple[Span, ...]:
    return _laid([*range(0, length - window, stride), length - window], window)


def _laid(starts: Iterable[int], window: int) -> tuple[Span, ...]:
    return tuple(Span(start, start + window, start, start + window) for start in starts)
