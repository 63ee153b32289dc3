"""Similarity guidance: cells come nearer to what they should be, by the length that is told, window by window."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.guidance import gradient
from patchloom.diffusion.guidance_cells import Sight, aims, climb
from patchloom.diffusion.guidance_similarity import Aimed, Pull, resembling
from patchloom.errors import InputError
from patchloom.testing.gaussian import GaussianDenoiser, Means

FACTOR, CHANNELS = 4, 3
DENOISER = GaussianDenoiser(variance=0.4, null_variance=2.0)
LEVELS = (9.0, 3.0, 1.0, 0.3, 0.1)
PULL = Pull(0.2, (0.2, 5.0), 2)


def decoded(latents: Tensor) -> Tensor:
    """Every latent is a flat square of pixels about the middle of the range: nothing is clipped."""
    return (127.5 + 5 * latents).repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)


def embedded(pixels: Tensor) -> Tensor:
    """Four moments of each channel."""
    centred = (pixels - 127.5) / 5
    height, width = pixels.shape[2:]
    halves = [centred[..., : height // 2, :], centred[..., :, : width // 2], centred, centred**2]
    return torch.cat([half.mean((2, 3)) for half in halves], dim=1)


def sight(cell_px: int = 16, halo: int = 1) -> Sight:
    return Sight(decoded, embedded, FACTOR, cell_px, halo)


def grid(windows: int, count: int = 4, step: float = 2.0, origin: float = 2.0, seed: int = 5) -> GridCondition:
    """Cells of 4 latents every `step`, the first with its centre at `origin`."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn((windows, count, count, 4 * CHANNELS), generator=generator)
    places = torch.full((windows, 2), origin), torch.full((windows, 2), step)
    return GridCondition(cells, torch.ones(windows, count, count, dtype=torch.bool), *places, torch.zeros(windows) > 0)


def batch(windows: int, side: int = 10) -> tuple[Tensor, Tensor, Aimed[Means]]:
    x = torch.randn((windows, CHANNELS, side, side), generator=torch.Generator().manual_seed(3))
    told = Means.of(*[0.1 * number for number in range(windows)])
    return x, torch.full((windows,), 1.0), Aimed(told, grid(windows))


def likeness(D: Tensor, cells: GridCondition) -> Tensor:
    """The cosine of every cell of every window, (windows, cells)."""
    pixels, side = decoded(D), 16
    starts = [round(float(cells.origin[0, 0] + n * cells.step[0, 0]) * FACTOR) - 8 for n in range(cells.valid.shape[1])]
    seen = [embedded(pixels[:, :, y : y + side, x : x + side]) for y in starts for x in starts]
    return torch.cosine_similarity(torch.stack(seen, 1), cells.cells.flatten(1, 2), dim=2)


def test_cells_come_nearer_and_more_so_with_strength() -> None:
    x, sigma, condition = batch(2)
    plain = likeness(DENOISER(x, sigma, condition.told), condition.cells).mean()
    weak, strong = (
        likeness(resembling(DENOISER, sight(), replace(PULL, strength=s), LEVELS)(x, sigma, condition), condition.cells)
        for s in (0.05, 0.3)
    )
    assert plain + 0.02 < weak.mean()
    assert weak.mean() + 0.05 < strong.mean()


@pytest.mark.parametrize("level", [9.0, 0.2, 0.1])
def test_outside_its_levels_the_denoiser_alone_is_asked(level: float) -> None:
    x, _, condition = batch(2)
    sigma = torch.full((2,), level)
    found = resembling(DENOISER, sight(), PULL, LEVELS)(x, sigma, condition)
    assert torch.equal(found, DENOISER(x, sigma, condition.told))
    assert torch.equal(resembling(DENOISER, sight(), Pull(0.0), LEVELS)(x, sigma, condition), found)


def test_a_windows_bits_do_not_depend_on_its_batch() -> None:
    x, sigma, condition = batch(3)
    pulled = resembling(DENOISER, sight(), PULL, LEVELS)
    whole = pulled(x, sigma, condition)
    for place in range(3):
        part = slice(place, place + 1)
        told = Means(condition.told.values[part], condition.told.dropped[part])
        alone = pulled(x[part], sigma[part], Aimed(told, condition.cells.take(torch.tensor([place]))))
        assert torch.equal(alone, whole[part])


def test_a_step_has_the_length_that_is_told() -> None:
    """One cell over the whole window, one step: the move's root mean square is the pull's length."""
    x = torch.randn((1, CHANNELS, 4, 4), generator=torch.Generator().manual_seed(0))
    condition, sigma = Aimed(Means.of(0.3), grid(1, count=1)), torch.tensor([1.0])
    pull = replace(PULL, steps=1)
    move = resembling(DENOISER, sight(), pull, LEVELS)(x, sigma, condition) - DENOISER(x, sigma, condition.told)
    assert float(move.square().mean().sqrt()) == pytest.approx(pull.length(1.0), rel=1e-4)
    assert pull.length(1.0) == pytest.approx(0.2 / 2**0.5)


def test_a_tile_has_the_gradient_of_the_whole_window() -> None:
    """A decoder that reaches no farther than the halo: cutting changes nothing but the scale."""
    D, cells, eyes = batch(1, side=12)[0], grid(1, count=5), sight()

    def summed(latents: Tensor) -> Tensor:
        pixels = decoded(latents)
        parts = [(aim, pixels[:, :, aim.y : aim.y + 16, aim.x : aim.x + 16]) for block in blocks for aim in block]
        return torch.stack([torch.cosine_similarity(embedded(p)[0], aim.embedding, dim=0) for aim, p in parts])

    blocks = list(aims(cells, 0, (12, 12), 0, eyes))
    whole = gradient(summed, D)
    for block in blocks:
        for part, slope in climb(D, block, eyes):
            own = whole[:, :, part.y : part.stop_y, part.x : part.stop_x]
            torch.testing.assert_close(slope, own / own.square().mean().sqrt(), rtol=1e-4, atol=1e-5)


@given(
    side=st.integers(4, 60),
    step=st.integers(1, 30),
    origin=st.integers(-20, 40),
    count=st.integers(1, 9),
    cell=st.sampled_from([4, 6, 12, 16, 40]),
)
def test_every_cell_inside_has_its_turn_and_none_overlap(
    side: int, step: int, origin: int, count: int, cell: int
) -> None:
    cells, eyes = grid(1, count, step / FACTOR, origin / FACTOR), sight(cell)
    starts = {round(origin + n * step - cell / 2) for n in range(count)}
    inside = {start for start in starts if 0 <= start <= side * FACTOR - cell}
    every = max(min(-(-cell // step), len(inside)), 1)
    seen: Counter[tuple[int, int]] = Counter()
    for turn in range(every**2):
        corners = [(aim.y, aim.x) for block in aims(cells, 0, (side, side), turn, eyes) for aim in block]
        assert all(
            a == b or max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= min(cell, step * every)
            for a in corners
            for b in corners
        )
        seen.update(corners)
    assert seen == Counter({(y, x): 1 for y in inside for x in inside})


def test_cells_that_say_nothing_move_nothing() -> None:
    x, sigma, condition = batch(1)
    valid = torch.zeros_like(condition.cells.valid)
    valid[0, 0, 0] = True
    pulled = resembling(DENOISER, sight(), replace(PULL, steps=4), LEVELS)
    told = replace(condition, cells=replace(condition.cells, valid=valid))
    move = pulled(x, sigma, told) - DENOISER(x, sigma, condition.told)
    assert bool((move[:, :, :4, :4] != 0).all())
    assert bool((move[:, :, 4:, :] == 0).all())
    assert bool((move[:, :, :, 4:] == 0).all())
    nothing = replace(told, cells=replace(condition.cells, valid=torch.zeros_like(valid)))
    assert torch.equal(pulled(x, sigma, nothing), DENOISER(x, sigma, condition.told))


def test_a_condition_is_joined_and_nulled_as_the_one_inside() -> None:
    condition = batch(2)[2]
    both = condition.join(condition.null())
    assert len(both) == 4
    assert both.told.dropped.tolist() == [False, False, True, True]
    assert torch.equal(both.cells.cells[2:], condition.cells.cells)


@dataclass
class Bad:
    strength: float = 0.1
    interval: tuple[float, float] = (0.2, 5.0)
    steps: int = 2


@pytest.mark.parametrize(
    "bad",
    [Bad(-0.1), Bad(float("nan")), Bad(float("inf")), Bad(interval=(2.0, 1.0)), Bad(interval=(-1, 1)), Bad(steps=0)],
)
def test_what_makes_no_sense_is_refused(bad: Bad) -> None:
    with pytest.raises(InputError, match="similarity guidance has"):
        Pull(bad.strength, bad.interval, bad.steps)
