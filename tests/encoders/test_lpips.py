"""LPIPS with random weights: the formula by hand, the laws of a distance, and the files that it is read from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from patchloom.encoders.known_weights import WEIGHTS
from patchloom.encoders.lpips import TRUNKS, Lpips, load_lpips
from patchloom.encoders.weights import file_digest, files_digest
from patchloom.errors import FormatError, InputError, MissingError

ALEX = "lpips-alexnet"
STEPS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # AlexNet's convolutions: stride and padding


def random_weights(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A trunk as torchvision saves it, with its classifier, and heads as LPIPS saves them."""
    torch.manual_seed(0)
    network = Lpips(name)
    trunk = {key: value.clone() for key, value in network.state_dict().items() if key.startswith("features.")}
    heads = {f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1) for k, width in enumerate(TRUNKS[name].widths)}
    return trunk | {"classifier.6.bias": torch.zeros(1000)}, heads


def random_files(name: str, folder: Path) -> tuple[Path, Path]:
    """Both as files, by the names that their authors give."""
    trunk, heads = random_weights(name)
    paths = folder / TRUNKS[name].file, folder / TRUNKS[name].heads[0]
    for path, tensors in zip(paths, (trunk, heads), strict=True):
        torch.save(tensors, path)
    return paths


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return random_files(ALEX, tmp_path_factory.mktemp("alexnet"))


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_hand(trunk: dict[str, Tensor], heads: dict[str, Tensor], one: Tensor, two: Tensor) -> float:
    """Zhang et al. (2018), eq. 1, of one pair (3, h, w) through AlexNet: a loop over layers and over places."""
    total = 0.0
    planes = []
    for picture in (one, two):
        colours = [(0.458, -0.030), (0.448, -0.088), (0.450, -0.188)]
        scaled = [(picture[k] - shift) / scale for k, (scale, shift) in enumerate(colours)]
        planes.append(torch.stack(scaled)[None])
    for number, (layer, (stride, padding)) in enumerate(STEPS.items()):
        weight, bias = trunk[f"features.{layer}.weight"], trunk[f"features.{layer}.bias"]
        if layer in (3, 6):
            planes = [F.max_pool2d(x, 3, 2) for x in planes]
        planes = [F.conv2d(x, weight, bias, stride, padding).clamp_min(0) for x in planes]
        height, width = planes[0].shape[2:]
        of_layer = 0.0
        for y in range(height):
            for x in range(width):
                a, b = (plane[0, :, y, x] / (plane[0, :, y, x].norm() + 1e-10) for plane in planes)
                of_layer += float((heads[f"lin{number}.model.1.weight"].flatten() * (a - b) ** 2).sum())
        total += of_layer / (height * width)
    return total


def test_it_is_the_formula(files: tuple[Path, Path]) -> None:
    distance = load_lpips(f"{ALEX}:{files[0]},{files[1]}")
    one, two = pictures(1, 3, 40, 32), pictures(1, 3, 40, 32, seed=1)
    with torch.no_grad():
        found = distance(one, two)
    weights = random_weights(ALEX)
    expected = [by_hand(*weights, a, b) for a, b in zip(one, two, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(TRUNKS))
def test_it_is_nought_for_equals_and_the_same_both_ways(name: str) -> None:
    torch.manual_seed(0)
    distance = Lpips(name).eval()
    for head in distance.heads:
        torch.nn.init.uniform_(head)
    one, two = pictures(2, 3, 32, 48), pictures(2, 3, 32, 48, seed=1)
    with torch.no_grad():
        assert torch.equal(distance(one, one), torch.zeros(2))
        torch.testing.assert_close(distance(one, two), distance(two, one))
        assert distance(one, two).min() > 1e-3
        maps = distance.maps(one)
    assert [each.shape[1] for each in maps] == list(TRUNKS[name].widths)
    assert all(torch.allclose(each.norm(dim=1).max(), torch.tensor(1.0)) for each in maps)


def test_vgg16_is_the_published_trunk() -> None:
    """VGG16 has 138,357,544 parameters, AlexNet 61,100,840; all but these are their classifiers'."""
    sizes = {}
    for name in TRUNKS:
        with torch.device("meta"):
            network = Lpips(name)
        sizes[name] = sum(weight.numel() for weight in network.features.parameters())
    dense = {
        "lpips-vgg16": 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000,
        "lpips-alexnet": 9216 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000,
    }
    assert sizes["lpips-vgg16"] == 138_357_544 - dense["lpips-vgg16"]
    assert sizes["lpips-alexnet"] == 61_100_840 - dense["lpips-alexnet"]
    assert [number for number, _ in Lpips("lpips-alexnet").features.named_parameters()][::2] == [
        f"{layer}.weight" for layer in STEPS
    ]


def test_one_file_holds_all_or_two_do(files: tuple[Path, Path], tmp_path: Path) -> None:
    """The whole module of LPIPS's authors: slices, heads twice, constants."""
    trunk, heads = random_weights(ALEX)
    slices = {
        f"net.slice{1 + int(k.split('.')[1]) // 3}.{k.removeprefix('features.')}": v
        for k, v in trunk.items()
        if k.startswith("features.")
    }
    again = {f"lins.{k[3]}.model.1.weight": v.clone() for k, v in heads.items()}
    save_file(slices | heads | again | {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}, tmp_path / "whole.safetensors")
    one = load_lpips(f"{ALEX}:{tmp_path / 'whole.safetensors'}")
    two = load_lpips(f"{ALEX}:{files[1]},{files[0]}")  # in either order
    a, b = pictures(1, 3, 40, 40), pictures(1, 3, 40, 40, seed=1)
    assert torch.equal(one(a, b), two(a, b))
    assert one.digest == file_digest(tmp_path / "whole.safetensors")
    assert two.digest == files_digest(files)


def test_files_kept_in_the_folder_of_weights(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS, str(files[0].parent))
    assert load_lpips(ALEX).digest == files_digest(files)
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    (tmp_path / files[0].name).symlink_to(files[0])  # the heads alone are missing
    with pytest.raises(MissingError, match=r"are not on this machine: .*heads, `alex\.pth` of lpips/weights/v0\.1"):
        load_lpips(ALEX)


def test_what_does_not_fit_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="known are lpips-vgg16, lpips-alexnet"):
        load_lpips("lpips")
    with pytest.raises(MissingError, match=r"no file `\S+none\.pth`: it takes the trunk"):
        load_lpips(f"{ALEX}:{tmp_path / 'none.pth'}")
    with pytest.raises(FormatError, match=r"missing: heads\.0, heads\.1"):
        load_lpips(f"{ALEX}:{files[0]}")
    torch.save(random_weights("lpips-vgg16")[1], tmp_path / "vgg.pth")
    with pytest.raises(FormatError, match=r"misshapen: heads\.1 is \(128,\), not \(192,\)"):
        load_lpips(f"{ALEX}:{files[0]},{tmp_path / 'vgg.pth'}")
    distance = load_lpips(f"{ALEX}:{files[0]},{files[1]}")
    with pytest.raises(InputError, match="at least 31 px a side"):
        distance(pictures(1, 3, 30, 40), pictures(1, 3, 30, 40))
    with pytest.raises(InputError, match="of one size"):
        distance(pictures(1, 3, 40, 40), pictures(2, 3, 40, 40))
    assert not any(weight.requires_grad for weight in distance.parameters())
