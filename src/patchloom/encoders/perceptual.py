"""How different two pictures look to a network: the distance of its early feature maps.

As LPIPS (Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, eq. 1) with
two differences: the network is the default encoder's, whose weights install as a package, and no weights of channels
were fitted to people's judgements. So its numbers are its own, and not those of LPIPS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.encoders.efficientnet import NAME, load_network

# Blocks whose answers are compared, beside the stem's: at a half and a quarter of the size. Those of block 4 were left
# out: on decoded H&E their gradient is eight times as long as all of these together, and says little of the picture.
AFTER = (0, 2)
MAPS = f"{NAME}, stem and blocks {', '.join(map(str, AFTER))}, channels of length 1"
_EPS = 1e-10  # LPIPS's own


class PerceptualDistance(nn.Module):
    """The distance of pictures (b, 3, h, w) in [-1, 1] as a frozen network sees them; gradients reach the pictures.

    Raises DependencyError where the network's packages are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        network = load_network()[0]
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[: AFTER[-1] + 1])
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> PerceptualDistance:
        """It never trains: its batch statistics stay as they are."""
        return super().train(False)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        """Distances (b,): squared differences of maps whose channels have length 1, averaged over space, summed."""
        pairs = zip(self.maps(one), self.maps(two), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The network's early maps, float32, each channel vector divided by its length."""
        x = self.stem((pictures * 127.5 + 0.5) / 128)  # bytes less 127, over 128, as the network was trained
        found = [x]
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in AFTER:
                found.append(x)
        return [F.normalize(each.float(), dim=1, eps=_EPS) for each in found]
