"""Search plans with the exact Gaussian oracle: no network, no sampling. Prints tables in Markdown.

    python benchmarks/loom_oracle.py            # a line of 384 latents
    python benchmarks/loom_oracle.py --plane    # a canvas of 36 x 36 latents, windows of 16

`cost` is what a plan asks of a convolutional network for a block of 32 x 32 latents of a large canvas, in evaluations
of one 32 x 32 window: the sum over evaluations of (window / core)² for halo, (window / stride)² for average.
`distance` is the squared Wasserstein distance, over the variance, between what the plan makes and the field's own law
on crops of 64 latents (of 20 x 20 in the plane): variance, texture, coherence and seams in one number, 0 is exact.
The other figures are those of `patchloom.testing.oracle`; each is given for both kernels of DESIGN.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from patchloom.diffusion.levels import Levels, flow_uniform, karras, log_uniform
from patchloom.diffusion.samplers import SAMPLERS
from patchloom.diffusion.stage import Stage
from patchloom.geometry import Lattice
from patchloom.loom.plan import average, halo
from patchloom.testing.gaussian import Exponential, Kernel, SquaredExponential, covariance
from patchloom.testing.oracle import Figures, along, axis_covariance, borders, figures, plane_covariance

GOLDEN = (sqrt(5) - 1) / 2
R2 = 0.7548776662466927, 0.5698402909980532  # of patchloom.loom.plan, down and across
LENGTH, MARGIN, CROP = 384, 64, 64
SIDE, EDGE, PATCH = 36, 8, 20  # of the plane, where everything is half as large
Matrix = NDArray[np.float64]
Size = tuple[int, int]  # window, core
Sizes = tuple[tuple[float, int, int], ...]  # by falling noise: above sigma, window, core


@dataclass(frozen=True)
class Case:
    """A plan to try: sizes by falling noise, the share of a core that origins move by, a sampler on its levels."""

    name: str
    sizes: Sizes = ((0.0, 32, 24),)
    step: float = GOLDEN
    sampler: str = "dpmpp-2m"
    levels: Levels | None = None
    sync: int = 1
    stride: int = 0  # of average; 0 for halo

    def stages(self) -> list[Stage]:
        """The stages of the run."""
        return SAMPLERS[self.sampler](karras(14, 0.02, 20.0) if self.levels is None else self.levels)

    def meetings(self) -> list[Size]:
        """Window and core at each meeting."""
        sigmas = [stage.sigma for stage in self.stages()[:: self.sync]]
        found = (next(size for size in self.sizes if sigma > size[0]) for sigma in sigmas)
        return [(window, core) for _, window, core in found]

    def lattices(self, canvas: tuple[int, int], scale: int = 1) -> list[Lattice]:
        """The lattices for a canvas, with windows and cores `scale` times smaller."""
        sizes = [(window // scale, core // scale) for window, core in self.meetings()]
        if self.stride:
            return [average(canvas, window, self.stride // scale) for window, _ in sizes]
        # Down the canvas the sequence is another one, as it must be: else borders would cross on a diagonal.
        steps = (R2[0] if self.step == R2[1] else 1 - self.step**2 if self.step else 0.0), self.step
        shares = [[(0.5 + number * step) % 1 for step in steps] for number in range(len(sizes))]
        return [
            halo(canvas, window, core, (int(down * core), int(across * core)))
            for (window, core), (down, across) in zip(sizes, shares, strict=True)
        ]

    @property
    def cost(self) -> float:
        """Evaluations of a 32 x 32 window for a block, in the limit of large canvases."""
        sizes = [size for size in self.meetings() for _ in range(self.sync)][: len(self.stages())]
        return sum((window / (self.stride or core)) ** 2 for window, core in sizes)


def cases() -> Iterator[tuple[str, list[Case]]]:
    """What is tried, by the question it answers."""
    yield "baselines", baselines()
    for name, sizes in (HALO, ("shift 32", one(32, 32))):
        yield f"origins, {name}", origins(name, sizes)
    yield "cores", [Case(f"core {core} of 32", one(32, core)) for core in (32, 28, 24, 20, 16, 8)]
    yield "cores that change with noise", changing_cores()
    yield "one window, larger", larger_windows()
    yield "windows that change with noise", changing_windows()
    for name, sizes in (HALO, WHOLE):
        yield f"solvers, {name}", solvers(sizes)
    for name, sizes in (HALO, ("halo 56 of 64", one(64, 56))):
        yield f"levels, {name}", [Case(label, sizes, levels=make()) for label, make in LEVELS.items()]
    yield "meetings, halo 24 of 32", [Case(f"sync {sync}", sync=sync) for sync in (1, 2, 4)]
    yield "starts", starts()
    yield "candidates", candidates()


def one(window: int, core: int) -> Sizes:
    """The same window and core at every level."""
    return ((0.0, window, core),)


HALO = "halo 24 of 32", one(32, 24)
WHOLE = "whole canvas", one(LENGTH, LENGTH)
STEPS = {
    "0.57 (R2, across)": R2[1],
    "0.755 (R2, down)": R2[0],
    "0.618 (golden)": GOLDEN,
    "0.5": 0.5,
    "0.382": 0.382,
}


def baselines() -> list[Case]:
    """The whole canvas as one window, the paper's plan, and halo with a moving and a fixed lattice."""
    fifty = karras(50, 0.02, 20.0)
    paper = Case("average, stride 8, Euler, 50 (the paper)", sampler="euler", levels=fifty, stride=8)
    return [Case(WHOLE[0], WHOLE[1], 0.0), paper, Case(HALO[0]), Case("the same, fixed", step=0.0)]


def origins(name: str, sizes: Sizes) -> list[Case]:
    """How far the lattice moves from stage to stage."""
    return [Case(f"{name}, step {label}", sizes, step) for label, step in STEPS.items()]


def changing_cores() -> list[Case]:
    """One core at high noise, another at low."""
    return [
        Case(f"core {high} above {above:g}, {low} below", ((above, 32, high), (0.0, 32, low)))
        for above in (0.3, 1.0, 3.0)
        for high, low in ((28, 16), (16, 28), (32, 16), (16, 32))
    ]


def larger_windows() -> list[Case]:
    """Windows larger than 32 latents at every level."""
    sizes = ((48, 40), (64, 48), (64, 56), (96, 80), (96, 88), (128, 112), (128, 120))
    return [Case(f"core {core} of {window}", one(window, core)) for window, core in sizes]


def changing_windows() -> list[Case]:
    """A larger window at high noise, 32 at low."""
    return [
        Case(f"{window} ({window - 8}) above {above:g}, 32 (24) below", ((above, window, window - 8), (0.0, 32, 24)))
        for window in (64, 96, 128)
        for above in (0.1, 0.3, 1.0, 3.0)
    ]


def solvers(sizes: Sizes) -> list[Case]:
    """Every solver at 14 evaluations."""
    return [Case(solver, sizes, GOLDEN, solver, karras(count, 0.02, 20.0)) for solver, count in SOLVERS.items()]


def starts() -> list[Case]:
    """The highest level, with and without fresh noise."""
    return [
        Case(f"{name}, {solver}, 14 from {top:g}", sizes, GOLDEN, solver, karras(14, 0.02, top))
        for name, sizes in (WHOLE, HALO)
        for solver in ("dpmpp-2m", "dpmpp-2m-sde")
        for top in (20.0, 40.0, 80.0)
    ]


def candidates() -> list[Case]:
    """Windows, solvers, counts and starts that did well, all together."""
    return [
        Case(
            f"{core} of {window}, {solver}, {count} from {top:g}",
            one(window, core),
            GOLDEN,
            solver,
            karras(count, 0.02, top),
        )
        for window, core in ((32, 24), (48, 36), (64, 48), (64, 56), (96, 80))
        for solver in ("dpmpp-2m", "dpmpp-2m-sde")
        for count, top in ((10, 20.0), (14, 20.0), (10, 40.0), (14, 40.0), (14, 80.0))
    ]


SOLVERS = {
    "euler": 14,
    "heun": 7,
    "dpmpp-2m": 14,
    "unipc": 14,
    "plms": 13,
    "ddpm": 14,
    "dpmpp-2m-sde": 14,
}  # 14 evaluations
LEVELS: dict[str, Callable[[], Levels]] = {
    **{f"Karras {count}": lambda count=count: karras(count, 0.02, 20.0) for count in (6, 10, 14, 20, 28)},  # type: ignore[misc]
    **{f"Karras 14, rho {rho:g}": lambda rho=rho: karras(14, 0.02, 20.0, rho=rho) for rho in (3.0, 5.0, 12.0)},  # type: ignore[misc]
    **{f"Karras 14 from {top:g}": lambda top=top: karras(14, 0.02, top) for top in (10.0, 40.0, 80.0)},  # type: ignore[misc]
    **{f"Karras 14 to {low:g}": lambda low=low: karras(14, low, 20.0) for low in (0.05, 0.1)},  # type: ignore[misc]
    "log-uniform 14": lambda: log_uniform(14, 0.02, 20.0),
    "flow-uniform 14": lambda: flow_uniform(14, 0.02, 20.0),
    "flow-uniform 14, shift 3": lambda: flow_uniform(14, 0.02, 20.0, shift=3.0),
}


def distance(made: Matrix, truth: Matrix) -> float:
    """Squared 2-Wasserstein distance of two centred normals, over the truth's total variance."""
    values, vectors = np.linalg.eigh(truth)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ made @ root), 0, None)).sum()
    return float((np.trace(truth) + np.trace(made) - 2 * cross) / np.trace(truth))


def on_a_line(case: Case, kernel: Kernel) -> tuple[Figures, float]:
    """Figures of a line of latents, and the mean distance of its crops."""
    axes = [lattice.cols for lattice in case.lattices((1, LENGTH))]
    made = axis_covariance(kernel, case.stages(), axes, sync=case.sync)
    truth = covariance(kernel, CROP)
    starts = range(MARGIN, LENGTH - MARGIN - CROP + 1, CROP // 2)
    found = [distance(made[a : a + CROP, a : a + CROP], truth) for a in starts]
    return figures(made, kernel, borders(axes[-1]), margin=MARGIN), float(np.mean(found))


def on_a_plane(case: Case, kernel: Kernel) -> tuple[Figures, float]:
    """Figures across a canvas of a separable field, and the distance of its middle."""
    lattices = case.lattices((SIDE, SIDE), scale=2)
    made = plane_covariance(kernel, kernel, case.stages(), lattices, sync=case.sync)
    inner = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)[(slice(EDGE, EDGE + PATCH),) * 2].ravel()
    truth = np.asarray(np.kron(covariance(kernel, PATCH), covariance(kernel, PATCH)), np.float64)
    line = figures(along(made, (SIDE, SIDE), 1), kernel, borders(lattices[-1].cols), margin=EDGE, lag=8)
    return line, distance(made[np.ix_(inner, inner)], truth)


def row(case: Case, found: Sequence[tuple[Figures, float]]) -> str:
    """A line of the table."""
    first, second = (one for one, _ in found)
    pairs = [(getattr(first, name), getattr(second, name)) for name in Figures.__slots__]
    cells = [f"{a:.2f} / {b:.2f}" for a, b in pairs]
    away = [value for _, value in found]
    return f"| {case.name} | {case.cost:.1f} | {away[0]:.3f} / {away[1]:.3f} | {' | '.join(cells)} |"


IN_THE_PLANE = ["baselines", "origins, halo 24 of 32", "cores", "starts"]
HEAD = "| plan | cost | distance | variance | fine | coherence | seam |\n|---|---|---|---|---|---|---|\n"


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description="Search plans with the exact Gaussian oracle.")
    parser.add_argument("--plane", action="store_true", help="in two dimensions: a few plans, a canvas of 36 x 36")
    parser.add_argument("--table", action="append", help="print this table alone, as often as given")
    asked = parser.parse_args()
    plane, titles = asked.plane, IN_THE_PLANE if asked.plane else [title for title, _ in cases()]
    scale = 2 if plane else 1
    kernels: list[Kernel] = [Exponential(30.0 / scale), SquaredExponential(12.0 / scale)]
    for title, some in cases():
        if title not in (asked.table or titles):
            continue
        sys.stdout.write(f"\n{title}\n\n{HEAD}")
        for case in some:
            measure = on_a_plane if plane else on_a_line
            sys.stdout.write(row(case, [measure(case, kernel) for kernel in kernels]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
