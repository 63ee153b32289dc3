"""Training an encoder on pixels without labels: two looks at one place should be told alike, other places apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.datasets.dataset import Dataset, Split
from patchloom.datasets.planes import Planes
from patchloom.encoders.trained import FORMAT, MEAN, STD, TrainedRecord, save_encoder
from patchloom.encoders.trained_network import TrainedNetwork
from patchloom.errors import InputError
from patchloom.training.config import EncoderTraining
from patchloom.training.draws import Draws
from patchloom.training.ema import channels_last
from patchloom.training.encoder_losses import effective_rank, simclr, vicreg
from patchloom.training.encoder_views import look

_LOSSES = {"simclr": simclr, "vicreg": vicreg}
_JUDGED = 256  # validation places, looked at twice
_SHOWN, _NEIGHBOURS = 8, 7  # rows of the sheet, and pictures beside the first of each


class Projected(nn.Module):
    """An encoder and the layers behind it that the loss sees; they are trained along and left behind."""

    def __init__(self, encoder: TrainedNetwork, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        layers: list[nn.Module] = []
        for before, width in zip((encoder.shape.dim, *widths[:-1]), widths, strict=True):
            layers += [nn.Linear(before, width), nn.LayerNorm(width), nn.SiLU()]
        self.projector = nn.Sequential(*layers[:-2])  # the last layer is linear

    def forward(self, picture: Tensor) -> Tensor:
        """Normalised pictures (b, 3, h, w) to projections (b, widths[-1])."""
        projections: Tensor = self.projector(self.encoder(picture))
        return projections


class EncoderTask:
    """Places anywhere in the training plots. A datum is one crop's worth of a plot's area.

    Under torchrun a place is held against the others of its own process. Raises InputError where the sizes do not fit
    the network or no plot is as large as a crop.
    """

    def __init__(
        self, config: EncoderTraining, dataset: Dataset, device: torch.device, *, compiled: bool = False
    ) -> None:
        _check_sizes(config)
        torch.manual_seed(config.seed)
        self.config, self.dataset = config, dataset
        self.module: nn.Module = channels_last(Projected(TrainedNetwork(config.shape), config.projection).to(device))
        self.places = Places(dataset, "train", config.crop_px, device)
        self.held_out = Places(dataset, "val", config.crop_px, device) if dataset.plots("val") else self.places
        if compiled:
            self.module.compile(dynamic=False)

    def __len__(self) -> int:
        return len(self.places.plots)

    def loss(self, index: Tensor, draws: Draws) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, a scalar, of two looks at one place of the plot of each datum numbered `index` (b,)."""
        first, second = self._looks(self.places, index, draws.device)
        projections = self.module(torch.cat([first, second]))
        with torch.autocast(index.device.type, enabled=False):
            loss = _LOSSES[self.config.loss](*projections.float().chunk(2))
        return loss, {}

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> tuple[Mapping[str, float], Mapping[str, NDArray[np.uint8]]]:
        """How often a second look finds its place among 256 of validation, the rank of the answers, and a sheet.

        Each row of the sheet is a place and the places of other plots (of the same, where there is one) nearest to it.
        """
        network = _projected(averaged).encoder
        index = torch.arange(_JUDGED, device=self.places.plots.device) * len(self.held_out.plots) // _JUDGED
        generator = Draws.seeded(index.device, 0).device
        one, two = (_centred(network(part)) for part in self._looks(self.held_out, index, generator))
        found = (one @ two.T).argmax(1) == torch.arange(_JUDGED, device=index.device)
        figures = {"val/found": float(found.float().mean()), "val/rank": float(effective_rank(one))}
        return figures, {"val/nearest": self._sheet(network, index)}

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the averaged encoder, without the projector, to `folder/encoder`."""
        plots = self.dataset.plots("train")
        licences = "; ".join(dict.fromkeys(plot.licence or "not stated" for plot in plots))
        record = TrainedRecord(
            FORMAT, folder.name, self.config.shape, self.config.input_px, self.dataset.record.pixel_size, licences
        )
        save_encoder(_projected(averaged).encoder, record, folder / "encoder", torch.bfloat16)

    def _looks(self, places: Places, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        side, looks = self.config.crop_px, self.config.looks
        around = places.around(index, looks.reach_px(side), generator)
        first, second = (_normalised(look(around, side, looks, generator)) for _ in range(2))
        return first, second

    def _sheet(self, network: nn.Module, index: Tensor) -> NDArray[np.uint8]:
        size = self.config.input_px
        crops = self.held_out.around(index, size, Draws.seeded(index.device, 1).device)
        rows = _centred(network(_normalised(crops.float())))
        plot = self.held_out.plots[index]
        alone = torch.eye(len(plot), device=plot.device).bool()
        same = alone if bool((plot == plot[0]).all()) else plot[:, None] == plot
        nearest = (rows @ rows.T).masked_fill(same, -2).topk(_NEIGHBOURS, dim=1).indices
        shown = torch.arange(_SHOWN, device=index.device) * (_JUDGED // _SHOWN)
        chosen = torch.cat([shown[:, None], nearest[shown]], dim=1)
        sheet = crops[chosen].permute(0, 3, 1, 4, 2).reshape(_SHOWN * size, (1 + _NEIGHBOURS) * size, 3)
        return sheet.cpu().numpy()


class Places:
    """Where crops can lie in the plots of a split. Raises InputError where no plot is as large as a crop."""

    def __init__(self, dataset: Dataset, split: Split, side: int, device: torch.device) -> None:
        self.pixels: Planes = dataset.pack(split, ["pixels"], device)
        self.side = side
        fits = (self.pixels.height >= side) & (self.pixels.width >= side)
        if not fits.any():
            raise InputError(f"no plot of split `{split}` in `{dataset.folder}` is as large as a crop of {side} px")
        shares = (self.pixels.height * self.pixels.width // side**2).clamp(min=1)
        self.plots = torch.arange(len(fits), device=device).repeat_interleave(torch.where(fits, shares, 0))

    def around(self, index: Tensor, reach_px: int, generator: torch.Generator) -> Tensor:
        """uint8 (b, 3, reach, reach) about a random crop of each datum's plot; beyond the plot its edge repeats."""
        plot = self.plots[index]
        draws = torch.rand(2, len(plot), generator=generator, device=plot.device)
        sizes = torch.stack([self.pixels.height[plot], self.pixels.width[plot]])
        y, x = (draws * (sizes - self.side + 1)).long() - (reach_px - self.side) // 2
        return self.pixels.crops(plot, y, x, reach_px, reach_px)


def _normalised(levels: Tensor) -> Tensor:
    """Levels 0 to 255 as the exported encoder's transform leaves them, channels last."""
    return ((levels / 255 - MEAN[0]) / STD[0]).contiguous(memory_format=torch.channels_last)


def _centred(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings - embeddings.mean(0), dim=1)


def _projected(module: nn.Module) -> Projected:
    if not isinstance(module, Projected):
        raise TypeError(f"expected our encoder and its projector, found {type(module).__name__}")
    return module


def _check_sizes(config: EncoderTraining) -> None:
    for name in ("crop_px", "input_px"):
        if getattr(config, name) < config.shape.factor:
            raise InputError(
                f"`{name}` is {getattr(config, name)}, but the network folds {config.shape.factor} px into one place"
            )
