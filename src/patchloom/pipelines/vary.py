"""Variations of labelled images: each made anew from its own embeddings, its label kept, its origin written down.

With a strength below 1 a variation begins at the original, noised part of the way (SDEdit: Meng et al., ICLR 2022), so
it keeps the layout that is larger than the noise: the less the strength, the nearer the original, and the fewer steps.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

from patchloom.datasets.dataset import Split
from patchloom.errors import InputError, MismatchError, MissingError
from patchloom.fields.field import Cropped
from patchloom.loom.decode import BATCH
from patchloom.loom.memory import Sparing
from patchloom.loom.orders import weave_canvas
from patchloom.pipelines.decoding import decoded, tiles_of
from patchloom.pipelines.margin import margin_of
from patchloom.pipelines.originals import Original, Seen, originals_of
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.planning import run_of
from patchloom.pipelines.settings import Settings, settled
from patchloom.pyramids.image import write_image
from patchloom.pyramids.read import read_provenance

TABLE = "variations.csv"
_SIDE_BYTES = 8  # of the hash that is a seed


@dataclass(frozen=True, slots=True)
class Variation:
    """A row of `variations.csv`, a table that `prepare` and `evaluate` read: its group is the original's."""

    file: str
    group: str
    split: str
    pixel_size: str
    licence: str
    label: str
    source: str  # the image that it is a variation of
    seed: int
    pipeline: str
    pipeline_digest: str
    synthetic: str = "yes"


@dataclass(frozen=True, slots=True)
class Skipped:
    """An original that could not be varied, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Varied:
    """What `vary` made."""

    variations: tuple[Variation, ...]
    skipped: tuple[Skipped, ...]


def vary(
    pipeline: Pipeline,
    originals: Path,
    count: int,
    out: Path,
    settings: Settings | None = None,
    *,
    split: Split = "train",
    labelled: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Varied:
    """Write `count` variations of each image of a split of a dataset, or of a table as `prepare` takes it.

    Lossless pictures go to `out/images`, `out/variations.csv` says where each comes from. What an earlier call
    finished is kept. `labelled` leaves out images without a label. An image that cannot be embedded is skipped and
    named. Raises InputError for the test split, for settings that are none, or where nothing is left; MismatchError
    where groups leak from the test split, the dataset is another encoder's, or `out` holds variations made otherwise.
    """
    if split == "test":
        raise InputError("test images are never varied: what is trained on their variations has seen the test")
    if count < 1:
        raise InputError(f"each image is varied at least once, not {count} times")
    settings = settled(pipeline, settings or Settings())
    chosen = [one for one in originals_of(pipeline, originals, split) if one.label or not labelled]
    if not chosen:
        raise InputError(f"`{originals}` holds no {'labelled ' if labelled else ''}image of split `{split}`")
    (out / "images").mkdir(parents=True, exist_ok=True)
    made: list[Variation] = []
    skipped: list[Skipped] = []
    for done, original in enumerate(chosen):
        progress(done, len(chosen))
        try:
            made += _variations(pipeline, original, count, out, settings)
        except MismatchError:
            raise
        except (InputError, MissingError) as error:
            skipped.append(Skipped(original.source, str(error)))
    progress(len(chosen), len(chosen))
    _write_table(made, out / TABLE)
    return Varied(tuple(made), tuple(skipped))


def _variations(
    pipeline: Pipeline, original: Original, count: int, out: Path, settings: Settings
) -> Iterator[Variation]:
    seen: Seen | None = None
    for number in range(count):
        file = f"images/{original.name}-{number:03d}.png"
        seeded = replace(settings, seed=seed_of(settings.seed, original.name, number))
        block = _block(pipeline, original, seeded)
        if not _is_there(out / file, block):
            seen = seen or original.seen(settings.strength < 1)
            _make(pipeline, seen, out / file, seeded, block)
        yield Variation(
            file,
            original.group,
            original.split,
            pipeline.record.pixel_size,
            original.licence,
            original.label,
            original.source,
            seeded.seed,
            pipeline.record.name,
            pipeline.digest,
        )


def seed_of(seed: int, name: str, number: int) -> int:
    """The seed of one variation: another for every image and number, the same in every run."""
    return int.from_bytes(sha256(f"{seed}/{name}/{number}".encode()).digest()[:_SIDE_BYTES]) >> 1


def _block(pipeline: Pipeline, original: Original, settings: Settings) -> dict[str, Any]:
    return {
        "synthetic": True,
        "pipeline": pipeline.identity,
        "variation_of": {"source": original.source, "name": original.name, "group": original.group},
        "label": original.label,
        "settings": asdict(settings),
        "margin": margin_of(pipeline),
        "device": pipeline.device.type,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
    }


def _is_there(path: Path, block: dict[str, Any]) -> bool:
    """Whether an earlier run finished this picture. Raises MismatchError where it was made in another way."""
    if not path.is_file():
        return False
    found = read_provenance(path) or {}
    other = [key for key, value in block.items() if found.get(key) != _as_read(value)]
    if other:
        raise MismatchError(
            f"`{path}` was made in another way ({', '.join(other)} differ); name another folder, or delete this one"
        )
    return True


def _as_read(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _as_read(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _make(pipeline: Pipeline, seen: Seen, path: Path, settings: Settings, block: dict[str, Any]) -> None:
    run = run_of(pipeline, seen.scene, seen.frame, settings, seen.image)
    windows = max(len(lattice) for lattice in run.lattices)
    # Batches have one size and are filled up: a picture of one window would pay for a whole batch of them.
    latents = weave_canvas(replace(run, batch=min(run.batch, windows)))
    tiles = min(len(tiles_of(pipeline, settings, run.shape)), BATCH)
    pixels = decoded(pipeline, run, latents, settings, Sparing(), batch=tiles)
    inside = run.latents.box.grown(-seen.margin).times(pipeline.record.factor)
    write_image(Cropped(pixels, inside), path, provenance=block)


def _write_table(rows: list[Variation], path: Path) -> None:
    text = StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(Variation)])
    table.writerows(astuple(row) for row in rows)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(path)
