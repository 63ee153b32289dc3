"""Laws of encoders. Subclass, say how one is made, and inherit the tests.

class TestMyEncoder(EncoderLaws):
    def encoder(self) -> Encoder:
        return MyEncoder()
"""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from patchloom.encoders.embed import encode
from patchloom.encoders.encoder import Encoder
from patchloom.errors import InputError


class EncoderLaws:
    """What every encoder keeps: the spec's facts, uint8 in and float32 out, and one answer a picture."""

    batch = 4
    side = 48  # of the pictures that are shown; any side is taken

    def encoder(self) -> Encoder:
        """The encoder under test, ready to be asked."""
        raise NotImplementedError("subclasses of EncoderLaws say how their encoder is made")

    def test_the_spec_holds_what_grids_and_pipelines_rely_on(self) -> None:
        """A name, sizes, a transform and the digest of the weights."""
        spec = self.encoder().spec
        assert spec.name
        assert spec.dim > 0
        assert spec.input_px > 0
        assert len(spec.mean) == len(spec.std) == 3
        assert min(spec.std) > 0
        assert re.fullmatch("sha256:[0-9a-f]{64}", spec.digest)

    def test_embeddings_are_finite_float32_of_the_stated_length(self) -> None:
        """At the input size and away from it; nothing to differentiate."""
        encoder = self.encoder()
        for side in {self.side, encoder.spec.input_px}:
            embeddings = encoder(self._pictures(side))
            assert embeddings.shape == (self.batch, encoder.spec.dim)
            assert embeddings.dtype is torch.float32
            assert bool(torch.isfinite(embeddings).all())
            assert not embeddings.requires_grad

    def test_same_pictures_same_bits_and_pictures_untouched(self) -> None:
        """An encoder is a function: no random state, nothing written in place."""
        encoder, pictures = self.encoder(), self._pictures(self.side)
        kept = pictures.clone()
        assert torch.equal(encoder(pictures), encoder(pictures))
        assert torch.equal(pictures, kept)

    def test_a_picture_has_the_same_bits_at_any_place_beside_any_others(self) -> None:
        """In batches of one size, as `encode` fills them."""
        encoder, pictures = self.encoder(), self._pictures(self.side)
        whole = encode(encoder, pictures.numpy(), self.batch)
        turned = encode(encoder, pictures.flip(0).contiguous().numpy(), self.batch)[::-1]
        alone = encode(encoder, pictures[2:3].numpy(), self.batch)
        assert (whole == turned).all()
        assert (whole[2:3] == alone).all()

    def test_different_pictures_have_different_embeddings(self) -> None:
        """The answer depends on what is seen."""
        embeddings = self.encoder()(self._pictures(self.side))
        assert not torch.equal(embeddings[0], embeddings[1])

    @pytest.mark.parametrize(
        "pixels",
        [
            torch.zeros(2, 3, 32, 32),
            torch.zeros(2, 1, 32, 32, dtype=torch.uint8),
            torch.zeros(2, 3, 32, 33, dtype=torch.uint8),
            torch.zeros(3, 32, 32, dtype=torch.uint8),
            torch.zeros(0, 3, 32, 32, dtype=torch.uint8),
        ],
        ids=["float", "grey", "oblong", "no batch", "empty"],
    )
    def test_other_pixels_are_refused(self, pixels: Tensor) -> None:
        """With an error that says what was found."""
        with pytest.raises(InputError, match="found torch"):
            self.encoder()(pixels)

    def _pictures(self, side: int) -> Tensor:
        """Smooth pictures, no two alike."""
        coarse = torch.rand((self.batch, 3, 6, 6), generator=torch.Generator().manual_seed(0)) * 255
        return torch.nn.functional.interpolate(coarse, side, mode="bilinear").to(torch.uint8)
