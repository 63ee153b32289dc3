"""The single steps that samplers are made of: a stage for each, with its update.

Coefficients are float64 numbers; updates run in the state's own dtype, are pointwise in space and hold for states of
any shape. Each is a partial of a function of this module, so that a list of stages can be pickled and sent to a worker.
With lambda = -log sigma, h is a step in lambda.
"""

from __future__ import annotations

from functools import partial
from math import exp, expm1, log, sqrt

from torch import Tensor

from patchloom.diffusion.stage import Stage, State


def landing(sigma: float) -> Stage:
    """The jump from the last level to sigma 0: the answer is D, bit for bit."""
    return Stage(sigma, _land, planes=1, noisy=False)


def _land(state: State, D: Tensor, noise: Tensor | None) -> State:
    return (D,)


def renoising(sigma: float, after: float, eta: float) -> Stage:
    """One step of the DDIM family: keep a part of the noise that is there, add new noise; `after` in all."""
    up = eta * after * sqrt(1 - (after / sigma) ** 2)
    down = sqrt(after**2 - up**2)
    return Stage(sigma, partial(_renoise, kept=down / sigma, up=up), planes=1, noisy=up > 0)


def _renoise(state: State, D: Tensor, noise: Tensor | None, *, kept: float, up: float) -> State:
    x = D + kept * (state[0] - D)
    return (x if noise is None else x + up * noise,)


def heun_pair(sigma: float, after: float) -> list[Stage]:
    """The two stages of a Heun step; between them the state is (predicted x, x)."""
    predict = partial(_heun_predict, ratio=after / sigma)
    correct = partial(_heun_correct, half=(after - sigma) / (2 * after))
    return [Stage(sigma, predict, planes=2, noisy=False), Stage(after, correct, planes=1, noisy=False)]


def _heun_predict(state: State, D: Tensor, noise: Tensor | None, *, ratio: float) -> State:
    return D + ratio * (state[0] - D), state[0]


def _heun_correct(state: State, D: Tensor, noise: Tensor | None, *, half: float) -> State:
    predicted, x = state
    return ((predicted + x) / 2 + half * (predicted - D),)


def multistep(levels: list[float], eta: float) -> Stage:
    """The DPM-Solver++(2M) step from levels[-2] to levels[-1]; the state becomes (x, D)."""
    sigma, after = levels[-2:]
    h = log(sigma / after)
    update = partial(
        _extrapolate,
        slope=_slope(levels),
        kept=after / sigma * exp(-eta * h),
        up=after * sqrt(-expm1(-2 * eta * h)),
    )
    return Stage(sigma, update, planes=2, noisy=eta > 0)


def _extrapolate(state: State, D: Tensor, noise: Tensor | None, *, slope: float, kept: float, up: float) -> State:
    guess = D + slope * (D - state[1]) if len(state) > 1 else D
    x = guess + kept * (state[0] - guess)
    return (x if noise is None else x + up * noise), D


def _slope(levels: list[float]) -> float:
    """How much of the last change of D to add, for its value halfway along the step to levels[-1]."""
    if len(levels) == 2:
        return 0.0
    before, sigma, after = levels[-3:]
    return log(sigma / after) / log(before / sigma) / 2


def unipc(levels: list[float]) -> Stage:
    """The UniPC stage at levels[-2], which predicts levels[-1]; the state becomes (predicted x, D, D before).

    Corrector and predictor share their linear part, so their difference is a combination of D's alone and the image
    before the prediction need not be kept.
    """
    sigma, after = levels[-2:]
    newer, older = _correction(levels[:-1])
    update = partial(_correct_and_predict, newer=newer, older=older, slope=_slope(levels), kept=after / sigma)
    return Stage(sigma, update, planes=min(len(levels), 3), noisy=False)


def _correct_and_predict(
    state: State, D: Tensor, noise: Tensor | None, *, newer: float, older: float, slope: float, kept: float
) -> State:
    x, guess = state[0], D
    if len(state) > 1:
        x = x + newer * (D - state[1])
        guess = D + slope * (D - state[1])
    if len(state) > 2:
        x = x + older * (state[1] - state[2])
    return guess + kept * (x - guess), D, *state[1:2]


def _correction(levels: list[float]) -> tuple[float, float]:
    """Weights of the last and the last but one change of D in (corrected x - predicted x) at levels[-1].

    The first correction has order 1 and weight one half; then rho solves Zhao et al. (2023), eq. 9, for the nodes
    r = (-h_before / h, 1), and the predictor's own weight, one half, is taken off.
    """
    if len(levels) == 1:
        return 0.0, 0.0
    h = log(levels[-2] / levels[-1])
    B = expm1(-h)
    if len(levels) == 2:
        return -B / 2, 0.0
    r = -log(levels[-3] / levels[-2]) / h
    first = (B / -h - 1) / B
    second = 2 * ((B / -h - 1) / -h - 1 / 2) / B
    rho = (second - first) / (r - 1)
    return -B * (first - rho), -B * (1 / 2 - rho) / r


def plms_first(sigma: float, after: float) -> list[Stage]:
    """PLMS's first step: Heun's, but the state becomes (x, noise predicted at its start)."""
    predict = partial(_plms_predict, sigma=sigma, jump=after - sigma)
    correct = partial(_plms_correct, sigma=after, jump=after - sigma)
    return [Stage(sigma, predict, planes=2, noisy=False), Stage(after, correct, planes=2, noisy=False)]


def _plms_predict(state: State, D: Tensor, noise: Tensor | None, *, sigma: float, jump: float) -> State:
    eps = (state[0] - D) / sigma
    return state[0] + jump * eps, eps


def _plms_correct(state: State, D: Tensor, noise: Tensor | None, *, sigma: float, jump: float) -> State:
    predicted, eps = state
    return predicted + jump / 2 * ((predicted - D) / sigma - eps), eps


_ADAMS = (
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def plms(sigma: float, after: float, history: int) -> Stage:
    """A later step of PLMS with `history` (1 or more) earlier predictions; the state becomes (x, up to 3 of them)."""
    history = min(history, 3)
    update = partial(_plms_step, sigma=sigma, jump=after - sigma, weights=_ADAMS[history - 1])
    return Stage(sigma, update, planes=1 + min(history + 1, 3), noisy=False)


def _plms_step(
    state: State, D: Tensor, noise: Tensor | None, *, sigma: float, jump: float, weights: tuple[float, ...]
) -> State:
    x = state[0]
    predictions = ((x - D) / sigma, *state[1:])
    for weight, eps in zip(weights, predictions, strict=True):
        x = x + jump * weight * eps
    return x, *predictions[:3]
