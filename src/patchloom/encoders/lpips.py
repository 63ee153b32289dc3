"""LPIPS: how different two pictures look, by a network that was fitted to people's judgements.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (CVPR 2018), eq. 1, with version
0.1 of its authors' weights: the trunk is the VGG16 or AlexNet that was trained on ImageNet, and a head for each of five
of its maps weighs the map's channels. Neither comes with Patchloom; both are read from files that the user has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from patchloom.encoders.known_weights import WEIGHTS, weights_folder
from patchloom.encoders.vit_names import network_of
from patchloom.encoders.weights import files_digest, read_state
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.weights import fill

_EPS = 1e-10
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation, of [-1, 1]


@dataclass(frozen=True, slots=True)
class Trunk:
    """A network whose maps are compared: its layers as torchvision counts them, and where its weights are had."""

    heard: tuple[int, ...]  # the layers whose answers are compared
    widths: tuple[int, ...]  # channels of each
    least_px: int  # side of the smallest picture that it takes
    file: str  # of the trunk, as torchvision calls it
    heads: tuple[str, ...]  # files of the heads, as their authors and others call them


TRUNKS: dict[str, Trunk] = {
    "lpips-vgg16": Trunk(
        (3, 8, 15, 22, 29),
        (64, 128, 256, 512, 512),
        16,
        "vgg16-397923af.pth",
        ("vgg.pth", "weights-vgg16-lpips.pth"),
    ),
    "lpips-alexnet": Trunk((1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31, "alexnet-owt-7be5be79.pth", ("alex.pth",)),
}


class Lpips(nn.Module):
    """The distance of pictures (b, 3, h, w) in [-1, 1]; 0 for equal ones. Frozen; gradients reach the pictures."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.digest = name, ""
        self.trunk = TRUNKS[name]
        self.features = nn.Sequential(*(_vgg16() if name == "lpips-vgg16" else _alexnet()))
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in self.trunk.widths)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        """Distances (b,). Raises InputError for pictures that are too small for the trunk, or unequal ones."""
        if one.shape != two.shape or min(one.shape[-2:]) < self.trunk.least_px:
            raise InputError(
                f"{self.name} takes two pictures of one size, at least {self.trunk.least_px} px a side, found "
                f"{tuple(one.shape[-2:])} and {tuple(two.shape[-2:])}"
            )
        parts = [
            torch.einsum("bchw,c->bhw", (a - b).square(), head).mean((1, 2))
            for a, b, head in zip(self.maps(one), self.maps(two), self.heads, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The trunk's maps, float32, the channels of each place divided by their length."""
        shift, scale = (pictures.new_tensor(part).view(1, 3, 1, 1) for part in (_SHIFT, _SCALE))
        x, found = (pictures - shift) / scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.trunk.heard:
                found.append(x.float())
        return [each / (each.square().sum(1, keepdim=True).sqrt() + _EPS) for each in found]


def load_lpips(name: str, device: torch.device | str = "cpu") -> Lpips:
    """LPIPS by name, `lpips-vgg16` or `lpips-alexnet`, with its weights from files.

    `NAME:FILE` or `NAME:FILE,FILE` names them: one that holds all, or trunk and heads in either order. A name alone
    looks in the folder that PATCHLOOM_WEIGHTS names, for `NAME.safetensors` or `NAME.pth`, which hold all, then for the
    two by the names that their authors give. Raises InputError for another name, MissingError where a file is not
    here, with where it is had, and FormatError that lists what does not fit.
    """
    kind, _, files = name.partition(":")
    if kind not in TRUNKS:
        raise InputError(
            f"there is no `{kind}`; known are {', '.join(TRUNKS)}, and NAME:FILE,FILE with files of weights"
        )
    paths = [Path(each).expanduser() for each in files.split(",")] if files else kept_files(kind)
    absent = [path for path in paths if not path.is_file()]
    if absent or not paths:
        which = f"there is no file `{absent[0]}`" if absent else f"the weights of `{kind}` are not on this machine"
        raise MissingError(f"{which}: {how_to_get(kind)}")
    held: dict[str, Tensor] = {}
    for path in paths:
        try:
            held |= network_of(read_state([path]), None)
        except FormatError as error:
            raise FormatError(f"`{path}`: {error}") from None
    where = " and ".join(f"`{path}`" for path in paths)
    with torch.device("meta"):
        network = Lpips(kind)
    fill(network, lpips_to_ours(held), where)
    network.digest = files_digest(paths)
    return network.to(device)


def lpips_to_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names, from torchvision's and LPIPS's; a trunk's classifier and the constants are left out."""
    ours: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if re.match(r"(classifier|lins|scaling_layer)\.", name):  # `lins` repeats the heads
            continue
        head = re.fullmatch(r"lin(\d)\.model\.[01]\.weight", name)
        if head is not None and value.ndim == 4:
            ours[f"heads.{head[1]}"] = value[0, :, 0, 0]
        else:
            ours[re.sub(r"^(net\.)?slice\d\.", "features.", name)] = value
    return ours


def kept_files(name: str) -> Sequence[Path]:
    """The files in the user's folder, none where they are not complete."""
    folder, trunk = weights_folder(), TRUNKS[name]
    if folder is None:
        return ()
    for suffix in (".safetensors", ".pth"):
        whole = folder / f"{name}{suffix}"
        if whole.is_file():
            return (whole,)
    heads = next((folder / each for each in trunk.heads if (folder / each).is_file()), None)
    return (folder / trunk.file, heads) if heads is not None and (folder / trunk.file).is_file() else ()


def how_to_get(name: str) -> str:
    """Where the weights are had, and how they are named here; for messages."""
    trunk = TRUNKS[name]
    return (
        f"it takes the trunk, `{trunk.file}`, which torchvision's models list, and the heads, `{trunk.heads[0]}` of "
        "lpips/weights/v0.1 in richzhang/PerceptualSimilarity on GitHub. Files that you have: "
        f"`{name}:TRUNK,HEADS`, or keep both in the folder {WEIGHTS} names"
    )


def _vgg16() -> list[nn.Module]:
    """VGG16 (Simonyan and Zisserman 2015) up to its last rectified map."""
    layers: list[nn.Module] = []
    into = 3
    for widths in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        for width in widths:
            layers += [nn.Conv2d(into, width, 3, padding=1), nn.ReLU()]
            into = width
        layers.append(nn.MaxPool2d(2))
    return layers[:-1]


def _alexnet() -> list[nn.Module]:
    """AlexNet as Krizhevsky (2014) has it, up to its last rectified map."""
    return [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]
