"""Inception-v3 of the FID: its layers against the published list, its answers against torch-fidelity's class."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.inception import Inception, InceptionShape, pooled
from patchloom.encoders.known import KNOWN
from patchloom.encoders.known_weights import WEIGHTS
from patchloom.encoders.pixels import Transform
from patchloom.encoders.registry import load_encoder
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.evaluation.features import resizer
from patchloom.testing.encoders import EncoderLaws

NAMES = ("inception-v3", "inception-v3-tf1")


def filled(network: nn.Module) -> dict[str, Tensor]:
    """Weights by name, drawn by numpy in the names' order: the same on every machine."""
    rng = np.random.default_rng(0)
    found = {}
    for name, value in sorted(network.state_dict().items()):
        drawn = rng.standard_normal(value.shape).astype(np.float32)
        if name.endswith(("running_var", "bn.weight")):
            drawn = 1 + 0.5 * np.tanh(drawn)
        elif name.endswith("conv.weight"):
            drawn *= np.float32(np.sqrt(2 / np.prod(value.shape[1:])))
        else:
            drawn *= np.float32(0.1)
        found[name] = torch.from_numpy(drawn)
    return found


def published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file as pytorch-fid's is: with its classifier, and counts of batches."""
    counts = {n.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for n in tensors if "running_mean" in n}
    return {**tensors, **counts, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="module")
def thin() -> dict[str, Tensor]:
    """Weights of a network an eighth as wide."""
    return filled(Inception(InceptionShape(8)))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both conventions, of that network."""
    for name in NAMES:
        monkeypatch.setitem(KNOWN, name, replace(KNOWN[name], dim=256, network=InceptionShape(8)))


@pytest.mark.parametrize("name", NAMES)
class TestFromAFile(EncoderLaws):
    @pytest.fixture(autouse=True)
    def _file(self, name: str, names: None, thin: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(published(thin), tmp_path / "weights.pth")
        self.name = f"{name}:{tmp_path / 'weights.pth'}"

    def encoder(self) -> Encoder:
        return load_encoder(self.name)


def test_layers_and_shapes_are_the_published_ones() -> None:
    """The digest is of the names and shapes of torch-fidelity 0.4.0's class, classifier and counts left out."""
    with torch.device("meta"):
        network = Inception(InceptionShape())
    lines = sorted(f"{name} {list(value.shape)}" for name, value in network.state_dict().items())
    assert len(lines) == 94 * 5
    assert "Mixed_7c.branch3x3dbl_3b.conv.weight [384, 384, 3, 1]" in lines
    assert (
        hashlib.sha256("\n".join(lines).encode()).hexdigest()
        == "b628bc492e0cd5a5ea154bb78c4637db2a10ffa3c528519b65fb723b9bb5a5ac"
    )
    # torchvision states 27,161,264 with its classifier (2,049,000) and the auxiliary one (3,326,696)
    assert sum(weight.numel() for weight in network.parameters()) == 27_161_264 - 2_049_000 - 3_326_696


def test_answers_are_those_of_torch_fidelity() -> None:
    """The expected numbers were computed by torch-fidelity 0.4.0's class from the same weights and picture."""
    network = Inception(InceptionShape()).eval()
    network.load_state_dict(filled(network))
    plane = torch.arange(299.0)
    picture = torch.stack([(plane[:, None] / (7 + k) + plane / (11 - k)).sin() for k in range(3)])[None]
    with torch.inference_mode():
        found = network(picture)
    expected = torch.tensor([21.33607, 33.1022, 27.16867, 40.6334, 3.08623, 29.19238])
    torch.testing.assert_close(found[0, :6], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.mean(), torch.tensor(15.80446), atol=1e-4, rtol=1e-4)


def test_means_leave_padding_out_and_the_last_pool_takes_the_largest() -> None:
    ones = torch.ones(1, 1, 5, 5)
    assert torch.equal(pooled(ones, "mean"), ones)  # with padding counted, a corner would be 4/9
    picture = torch.arange(25.0).view(1, 1, 5, 5)
    assert pooled(picture, "mean")[0, 0, 0, 0] == (0 + 1 + 5 + 6) / 4
    assert pooled(picture, "largest")[0, 0, 0, 0] == 6
    assert torch.equal(pooled(picture, "halving"), torch.tensor([[[[12.0, 14.0], [22.0, 24.0]]]]))
    pools = {name: block.pool for name, block in Inception(InceptionShape(16)).named_children() if "Mixed" in name}
    assert [name for name, pool in pools.items() if pool == "largest"] == ["Mixed_7c"]
    assert [name for name, pool in pools.items() if pool == "halving"] == ["Mixed_6a", "Mixed_7a"]


def test_each_convention_of_resizing() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array([0, 255], np.uint8), (1, 3, 40, 40))
    one, two = (Transform(299, 299, (0.0,) * 3, (1 / 255,) * 3, KNOWN[name].transform.filter) for name in NAMES)
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in pixels[0]]  # clean-fid's way: floats, unclipped
    clean = np.stack([np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC)) for plane in planes])
    found = one(torch.from_numpy(pixels))[0]
    assert found.min() < 0
    np.testing.assert_allclose(found, clean, atol=2e-2)
    first = two(torch.from_numpy(pixels))[0].numpy()
    row, col = 200, 77  # the definition, at one place
    y, x = row * 40 / 299, col * 40 / 299
    corner = pixels[0, :, int(y) : int(y) + 2, int(x) : int(x) + 2].astype(float)
    weights = np.outer([1 - y % 1, y % 1], [1 - x % 1, x % 1])
    np.testing.assert_allclose(first[:, row, col], (corner * weights).sum((1, 2)), atol=1e-2)
    np.testing.assert_allclose(first[:, -1, -1], pixels[0, :, -1, -1], atol=1e-2)  # nothing lies beyond the last
    same = Transform(40, 40, (0.0,) * 3, (1 / 255,) * 3, "bilinear-tf1")
    np.testing.assert_allclose(same(torch.from_numpy(pixels))[0], pixels[0], atol=1e-3)


def test_bytes_are_centred_at_128(names: None, thin: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(thin, tmp_path / "weights.pth")
    grey = torch.full((1, 3, 299, 299), 128, dtype=torch.uint8)
    network = Inception(InceptionShape(8)).eval()
    network.load_state_dict(thin)
    with torch.inference_mode():
        expected = network(torch.zeros(1, 3, 299, 299))
    for name in NAMES:
        encoder = load_encoder(f"{name}:{tmp_path / 'weights.pth'}")
        torch.testing.assert_close(encoder(grey), expected, atol=1e-5, rtol=1e-5)
    assert resizer(encoder) == "the bilinear of TensorFlow 1, not antialiased, to 299 px"


def test_bfloat16_leaves_as_float32(names: None, thin: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(thin, tmp_path / "weights.pth")
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 60, 60), np.uint8))
    exact, rough = (
        load_encoder(f"inception-v3:{tmp_path / 'weights.pth'}", dtype=dtype)(pixels)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rough.dtype is torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.99


def test_its_weights_kept_in_a_folder(
    names: None, thin: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    for name in NAMES:
        with pytest.raises(
            MissingError, match=r"pt_inception-2015-12-05-6726825d\.pth`: the releases of .*pytorch-fid"
        ):
            load_encoder(name)
    torch.save(published(thin), tmp_path / "weights-inception-2015-12-05-6726825d.pth")
    assert [load_encoder(name).spec.name for name in NAMES] == list(NAMES)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_weights_of_another_network_are_refused(names: None, thin: dict[str, Tensor], tmp_path: Path) -> None:
    """torchvision's own has the auxiliary classifier, which the FID's has not."""
    other = {name: value for name, value in thin.items() if "Mixed_5b.branch_pool" not in name}
    torch.save(other | {"AuxLogits.fc.bias": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(FormatError, match=r"missing: Mixed_5b\.branch_pool.*unknown: AuxLogits\.fc\.bias"):
        load_encoder(f"inception-v3:{tmp_path / 'other.pth'}")
    program = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    program.save(tmp_path / "inception-2015-12-05.pt")
    with pytest.raises(FormatError, match="is a TorchScript program"):
        load_encoder(f"inception-v3:{tmp_path / 'inception-2015-12-05.pt'}")
    with pytest.raises(InputError, match="multiples of 16"):
        InceptionShape(3)


def test_a_network_of_any_width_halves_as_the_published_one() -> None:
    network = Inception(InceptionShape(16))
    seen: list[tuple[int, ...]] = []
    for name, block in network.named_children():
        if name.startswith("Mixed"):
            block.register_forward_hook(lambda _, __, answer: seen.append(tuple(answer.shape[1:])))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 299, 299))
    sides = [35] * 3 + [17] * 5 + [8] * 3
    widths = [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]
    assert seen == [(width // 16, side, side) for width, side in zip(widths, sides, strict=True)]
