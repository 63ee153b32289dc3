"""Variations of labelled images: each made anew from its own embeddings, its label kept, its origin written down."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

from patchloom.encoders.slide import embed_slide
from patchloom.errors import InputError, MismatchError, MissingError
from patchloom.geometry import Frame
from patchloom.loom.memory import Sparing
from patchloom.loom.orders import weave_canvas
from patchloom.pipelines.conditioning import CellScene
from patchloom.pipelines.decoding import decoded
from patchloom.pipelines.generate import canvas, run_of
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.reference import is_same
from patchloom.pipelines.settings import Settings, settled
from patchloom.pyramids.image import write_image
from patchloom.pyramids.read import read_provenance
from patchloom.training.dataset import NAME as DATASET
from patchloom.training.dataset import Dataset, Plot, Split, check_splits, open_dataset
from patchloom.training.manifest import Entry, read_manifest

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


@dataclass(frozen=True, slots=True, eq=False)
class _Original:
    """A real image and what its embeddings say of every place in it."""

    name: str  # of its files
    source: str
    group: str
    split: Split
    licence: str
    label: str
    scene: Callable[[], tuple[CellScene[Any], Frame]]  # computed when it is needed


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
    named. Raises InputError for the test split or where nothing is left, MismatchError where groups leak from the
    test split, the dataset is another encoder's, or `out` holds variations made in another way.
    """
    if split == "test":
        raise InputError("test images are never varied: what is trained on their variations has seen the test")
    if count < 1:
        raise InputError(f"each image is varied at least once, not {count} times")
    chosen = [one for one in _originals(pipeline, originals, split) if one.label or not labelled]
    if not chosen:
        raise InputError(f"`{originals}` holds no {'labelled ' if labelled else ''}image of split `{split}`")
    (out / "images").mkdir(parents=True, exist_ok=True)
    made: list[Variation] = []
    skipped: list[Skipped] = []
    for done, original in enumerate(chosen):
        progress(done, len(chosen))
        try:
            made += _variations(pipeline, original, count, out, settings or Settings())
        except MismatchError:
            raise
        except (InputError, MissingError) as error:
            skipped.append(Skipped(original.source, str(error)))
    progress(len(chosen), len(chosen))
    _write_table(made, out / TABLE)
    return Varied(tuple(made), tuple(skipped))


def _originals(pipeline: Pipeline, path: Path, split: Split) -> Iterator[_Original]:
    if (path / DATASET).is_file():
        dataset = open_dataset(path)
        _check_dataset(pipeline, dataset)
        yield from (_of_plot(pipeline, dataset, plot) for plot in dataset.plots(split))
        return
    if path.suffix.lower() != ".csv":
        raise InputError(f"`{path}` is neither a dataset of `patchloom prepare` nor a CSV table of images")
    entries = read_manifest(path)
    check_splits(tuple(_stub(entry) for entry in entries))
    yield from (_of_entry(pipeline, entry) for entry in entries if entry.split == split)


def _check_dataset(pipeline: Pipeline, dataset: Dataset) -> None:
    record, own = dataset.record, pipeline.record
    known = record.encoder is not None and is_same(own.encoder, record.encoder)
    if not known or record.patch_px != own.condition.cell_px or 0 not in record.views:
        name = record.encoder.name if record.encoder else "no encoder"
        raise MismatchError(
            f"dataset `{dataset.folder}` holds cells of {record.patch_px} px in {name}, pipeline `{own.name}` reads "
            f"cells of {own.condition.cell_px} px in {own.encoder.name}; prepare it again with --encoder "
            f"{own.encoder.name} --patch {own.condition.cell_px}, or name the table of its images"
        )
    if not dataset.pixel_size.agrees(pipeline.pixel_size):
        raise MismatchError(
            f"dataset `{dataset.folder}` has pixels of {dataset.pixel_size}, pipeline `{own.name}` of {own.pixel_size}"
        )


def _of_plot(pipeline: Pipeline, dataset: Dataset, plot: Plot) -> _Original:
    def scene() -> tuple[CellScene[Any], Frame]:
        cells, valid, origin = dataset.tensors(plot, ["cells.0", "valid.0", "origin.0"])
        factor = pipeline.record.factor
        step = dataset.record.stride_px / factor
        y, x = (float(place) / factor for place in origin)
        latents = _latents(pipeline, plot.box[2:])
        return pipeline.conditioning.over(cells.numpy(), valid.numpy(), (y, x), (step, step)), latents

    return _Original(plot.name, plot.source, plot.group, plot.split, plot.licence, plot.label, scene)


def _latents(pipeline: Pipeline, size_px: tuple[int, ...]) -> Frame:
    height, width = (side // pipeline.record.factor for side in size_px)
    return Frame(height, width, pipeline.record.channels, "float32")


def _of_entry(pipeline: Pipeline, entry: Entry) -> _Original:
    def scene() -> tuple[CellScene[Any], Frame]:
        condition = pipeline.record.condition
        grid = embed_slide(
            entry.path,
            pipeline.encoder(),
            pixel_size=pipeline.pixel_size,
            slide_pixel_size=entry.pixel_size,
            cell_px=condition.cell_px,
            stride_px=min(condition.strides_px),
        )
        return pipeline.conditioning.scene(grid), canvas(pipeline, grid)

    return _Original(entry.key, entry.name, entry.group, entry.split, entry.licence, entry.label, scene)


def _variations(
    pipeline: Pipeline, original: _Original, count: int, out: Path, settings: Settings
) -> Iterator[Variation]:
    scene: tuple[CellScene[Any], Frame] | None = None
    for number in range(count):
        file = f"images/{original.name}-{number:03d}.png"
        seeded = settled(pipeline, replace(settings, seed=seed_of(settings.seed, original.name, number)))
        block = _block(pipeline, original, seeded)
        if not _is_there(out / file, block):
            scene = scene or original.scene()
            _make(pipeline, scene, out / file, seeded, block)
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


def _block(pipeline: Pipeline, original: _Original, settings: Settings) -> dict[str, Any]:
    return {
        "synthetic": True,
        "pipeline": {"name": pipeline.record.name, "digest": pipeline.digest},
        "variation_of": {"source": original.source, "name": original.name, "group": original.group},
        "label": original.label,
        "settings": asdict(settings),
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


def _make(
    pipeline: Pipeline, scene: tuple[CellScene[Any], Frame], path: Path, settings: Settings, block: dict[str, Any]
) -> None:
    run = run_of(pipeline, *scene, settings)
    windows = max(len(lattice) for lattice in run.lattices)
    # Batches have one size and are filled up: a picture of one window would pay for a whole batch of them.
    latents = weave_canvas(replace(run, batch=min(run.batch, windows)))
    pixels = decoded(pipeline, run, latents, settings, Sparing())
    write_image(pixels, path, provenance=block)


def _write_table(rows: list[Variation], path: Path) -> None:
    text = StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(Variation)])
    table.writerows(astuple(row) for row in rows)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(path)


def _stub(entry: Entry) -> Plot:
    return Plot(entry.key, entry.name, entry.group, entry.split, entry.licence, entry.label, (0, 0, 0, 0), 0.0)
