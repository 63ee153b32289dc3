"""Laws of denoisers and of conditions. Subclass, say how one is made, and inherit the tests.

class TestMyDenoiser(DenoiserLaws[MyCondition]):
    def denoiser(self) -> Denoiser[MyCondition]:
        return Preconditioned(MyNetwork(), Parametrisation())

    def condition(self, count: int) -> MyCondition:
        return my_conditions(count)
"""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser

K = TypeVar("K", bound=Condition)
LEVELS = (0.02, 0.7, 5.0, 40.0)


class DenoiserLaws(Generic[K]):
    """What every denoiser keeps: shape and dtype, its inputs, each entry's independence of the rest of its batch."""

    channels = 4
    size = (32, 32)  # a height and width that the denoiser takes
    tolerance = 1e-5  # between batches of different sizes, in units of x's deviation

    def denoiser(self) -> Denoiser[K]:
        """The denoiser under test, ready to be asked."""
        raise NotImplementedError("subclasses of DenoiserLaws say how their denoiser is made")

    def condition(self, count: int) -> K:
        """Conditions of `count` entries, no two alike."""
        raise NotImplementedError("subclasses of DenoiserLaws say how their condition is made")

    def test_answers_have_the_shape_and_dtype_of_x_and_are_finite(self) -> None:
        """From nearly clean to nearly pure noise."""
        x, sigma, condition = self._batch()
        D = self._ask(x, sigma, condition)
        assert D.shape == x.shape
        assert D.dtype == x.dtype
        assert bool(torch.isfinite(D).all())

    def test_same_question_same_bits_and_inputs_untouched(self) -> None:
        """A denoiser is a function: no random state, nothing written in place."""
        x, sigma, condition = self._batch()
        kept_x, kept_sigma = x.clone(), sigma.clone()
        first, second = self._ask(x, sigma, condition), self._ask(x, sigma, condition)
        assert torch.equal(first, second)
        assert torch.equal(x, kept_x)
        assert torch.equal(sigma, kept_sigma)

    def test_an_entry_does_not_depend_on_its_batch(self) -> None:
        """Half a batch answers as the whole, whatever stands beside it and at whatever noise level."""
        x, sigma, condition = self._batch()
        whole = self._ask(torch.cat([x, -x]), torch.cat([sigma, sigma.flip(0)]), condition.join(condition.null()))
        alone = self._ask(x, sigma, condition)
        scale = 1 + x.flatten(1).std(dim=1)[:, None, None, None]
        assert float(((whole[: len(x)] - alone).abs() / scale).max()) < self.tolerance

    def test_little_noise_is_taken_for_little(self) -> None:
        """E[x0 | x] tends to x as sigma tends to 0: most parametrisations keep it by construction, x0 learns it."""
        x = self._batch()[0][:1] / LEVELS[0]
        sigma = torch.full((1,), 1e-3)
        assert float((self._ask(x, sigma, self.condition(1)) - x).abs().mean()) < 0.05

    def _batch(self) -> tuple[Tensor, Tensor, K]:
        generator = torch.Generator().manual_seed(11)
        sigma = torch.tensor(LEVELS)
        noise = torch.randn((len(sigma), self.channels, *self.size), generator=generator)
        return sigma[:, None, None, None] * noise, sigma, self.condition(len(sigma))

    def _ask(self, x: Tensor, sigma: Tensor, condition: K) -> Tensor:
        with torch.no_grad():
            return self.denoiser()(x, sigma, condition)


class ConditionLaws(Generic[K]):
    """What every condition keeps: guidance counts on it."""

    def condition(self, count: int) -> K:
        """Conditions of `count` entries."""
        raise NotImplementedError("subclasses of ConditionLaws say how their condition is made")

    def test_lengths(self) -> None:
        """`null` and `to` keep the count, `join` adds."""
        three, two = self.condition(3), self.condition(2)
        assert (len(three), len(three.null()), len(three.join(two)), len(two.join(two.null()))) == (3, 3, 5, 4)
        assert len(three.to(torch.device("cpu"), torch.float32)) == 3
        assert len(three) == 3
