"""Two scales of a Gaussian field, exactly: what windows make that are held to a coarser picture.

    python benchmarks/foreign_scales.py

A line of 160 latents in windows of 32 with cores of 24, blocks of 4, DPM-Solver++(2M) in 20 steps from 80 to 0.02. The
denoiser of a window is a matrix, and so is a whole run (`patchloom.testing.oracle`): its columns are the normals that
the run draws, and those that the coarse picture is made of. Prints a Markdown table; `error` is the norm of the
covariance's difference over that of the true one, `fine` the energy of neighbour differences over its true value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from patchloom.diffusion.levels import karras
from patchloom.diffusion.measured import block_means
from patchloom.diffusion.samplers import dpmpp_2m
from patchloom.diffusion.stage import Stage, State
from patchloom.geometry import Span
from patchloom.loom.plan import Plan
from patchloom.testing.gaussian import Exponential, Kernel, SquaredExponential, covariance, wiener

LENGTH, FACTOR, WINDOW, CORE, MARGIN = 160, 4, 32, 24, 32
STAGES = dpmpp_2m(karras(20, 0.02, 80.0))
FIELDS: dict[str, Kernel] = {
    "exp(-d/30)": Exponential(30.0),
    "exp(-(d/12)²/2)": SquaredExponential(12.0),
    "exp(-d/3)": Exponential(3.0),
}
BLOCKS = block_means([0], LENGTH, FACTOR)[0].double()
Held = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""D of a window, its J, its block means as a matrix, and what they are known to be, to the D that is held."""


def held(steps: int) -> Held:
    """As `diffusion.measured` does it: conjugate gradients, then replaced means."""

    def correct(D: Tensor, J: Tensor, A: Tensor, known: Tensor) -> Tensor:
        lift = FACTOR * A.T
        left = lift @ (known - A @ D)
        change, along = torch.zeros_like(left), left
        for _ in range(steps):
            bend = lift @ (A @ (J @ along))
            before = (left * left).sum(0)
            far = torch.nan_to_num(before / (along * bend).sum(0))
            change, left = change + far * (J @ along), left - far * bend
            along = left + torch.nan_to_num((left * left).sum(0) / before) * along
        D = D + change
        return D + lift @ (known - A @ D)

    return correct


@dataclass
class Line:
    """A line, and the coarse one beside it: finished before, or made in the same loop."""

    kernel: Kernel
    held: Held | None
    together: bool = False

    def covariance(self) -> Tensor:
        """Of the finished line."""
        coarse = BLOCKS @ torch.from_numpy(covariance(self.kernel, LENGTH)) @ BLOCKS.T
        count = len(coarse)
        noise = STAGES[0].sigma * torch.eye(LENGTH + count, dtype=torch.float64)
        fine: State = (noise[:LENGTH],)
        beside: State = (noise[LENGTH:],)
        root = torch.linalg.cholesky(coarse + 1e-12 * torch.eye(count, dtype=torch.float64))
        known = torch.cat([torch.zeros(count, LENGTH, dtype=torch.float64), root], dim=1)
        lattices = Plan.of("halo", WINDOW, CORE).lattices((1, LENGTH), [stage.sigma for stage in STAGES])
        for stage, lattice in zip(STAGES, lattices, strict=True):
            if self.together:
                known = coarse @ torch.linalg.solve(coarse + stage.sigma**2 * torch.eye(count).double(), beside[0])
                beside = stage.update(beside, known, None)
            fine = self._step(fine, stage, lattice.cols, known)
        return fine[0] @ fine[0].T

    def _step(self, state: State, stage: Stage, spans: tuple[Span, ...], known: Tensor) -> State:
        D = torch.zeros_like(state[0])
        for span in spans:
            seen, kept = slice(span.start, span.stop), slice(span.core_start - span.start, span.core_stop - span.start)
            J = torch.from_numpy(wiener(self.kernel, span.stop - span.start, stage.sigma))
            answer = J @ state[0][seen]
            if self.held is not None:
                blocks = slice(-(-span.start // FACTOR), span.stop // FACTOR)
                answer = self.held(answer, J, BLOCKS[blocks, seen], known[blocks])
            D[span.core_start : span.core_stop] = answer[kept]
        return stage.update(state, D, None)


def figures(kernel: Kernel, found: Tensor) -> str:
    """Error and fine."""
    truth = torch.from_numpy(covariance(kernel, LENGTH))
    inner = found.numpy()[MARGIN:-MARGIN, MARGIN:-MARGIN]
    rough = np.diag(inner)[1:] + np.diag(inner)[:-1] - 2 * np.diag(inner, 1)
    fine = float(rough.mean()) / (2 - 2 * float(kernel(np.ones(1))[0]))
    return f"{float((found - truth).norm() / truth.norm()):.3f}, {fine:.2f}"


def main() -> None:
    """One row a field."""
    ways: dict[str, tuple[Held | None, bool]] = {
        "windows alone": (None, False),
        **{f"held, {steps} steps": (held(steps), False) for steps in (0, 1, 3)},
        "both in one loop, 0 steps": (held(0), True),
        "the same, 3 steps": (held(3), True),
    }
    sys.stdout.write(f"| field: error, fine | {' | '.join(ways)} |\n|{' --- |' * (1 + len(ways))}\n")
    for name, kernel in FIELDS.items():
        cells = [figures(kernel, Line(kernel, *way).covariance()) for way in ways.values()]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
