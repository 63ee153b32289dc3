"""What every figure of the protocol needs beside the finished slides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchloom.datasets.manifest import Entry
from patchloom.encoders.lpips import Lpips
from patchloom.evaluation.comparison import Effort
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings
from patchloom.trials.evaluate import Bars
from patchloom.trials.sides import Pictures


@dataclass(frozen=True, slots=True)
class Measuring:
    """The pipeline that is measured, how, where its slides lie, and what it was trained on."""

    pipeline: Pipeline
    settings: Settings
    folder: Path
    training: Pictures | None
    effort: Effort
    bars: Bars
    lpips: Lpips | None = None

    @property
    def patch(self) -> int:
        """Side of a patch in px."""
        return self.pipeline.record.patch_px

    def place(self, entry: Entry) -> Path:
        """The folder of a finished slide."""
        return self.folder / "slides" / entry.key
