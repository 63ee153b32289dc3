"""An encoder trained here as a folder: it comes back as it was written, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.trained import FORMAT, RECORD, WEIGHTS, TrainedRecord, save_encoder, trained_encoder
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.testing.encoders import EncoderLaws
from patchloom.weights import digest

SHAPE = TrainedShape(6, (8, 8), (1, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_encoder(TrainedNetwork(SHAPE), TrainedRecord(FORMAT, "toy", SHAPE, 24, "0.5um", "CC0-1.0"), tmp_path / "toy")
    return tmp_path / "toy"


def edited(folder: Path, **changes: object) -> Path:
    values = json.loads((folder / RECORD).read_text()) | changes
    (folder / RECORD).write_text(json.dumps(values))
    return folder


def test_a_folder_is_an_encoder_with_a_digest(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    assert encoder.spec.digest == digest(folder / WEIGHTS)
    assert (encoder.spec.name, encoder.spec.dim, encoder.spec.input_px) == ("local:toy", 6, 24)
    torch.manual_seed(0)
    network = TrainedNetwork(SHAPE).eval()
    pixels = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(encoder(pixels), network((pixels / 255 - 0.5) / 0.5), atol=1e-5)


class TestTrainedEncoder(EncoderLaws):
    """Its embedding does not depend on a picture's neighbours, and so on."""

    @pytest.fixture(autouse=True)
    def _kept(self, folder: Path) -> None:
        self.folder = folder

    def encoder(self) -> Encoder:
        """The folder as it was written."""
        return trained_encoder(self.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"input_px": 4}, "sees 4 px, its network needs 8"),
        ({"convolutional": {"dim": 7, "widths": [8, 8], "blocks": [1, 0]}}, "misshapen"),
        ({"weight": 1}, "unknown key `weight`"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(changes: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(FormatError, match=message):
        load_encoder(str(edited(folder, **changes)))


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(MissingError, match=WEIGHTS):
        load_encoder(str(folder))


@pytest.mark.parametrize("sizes", [((8,), (1, 1)), ((), ()), ((8, 0), (1, 1)), ((8,), (-1,))])
def test_shapes_that_make_no_network_are_refused(sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match="encoder"):
        TrainedShape(6, *sizes)
