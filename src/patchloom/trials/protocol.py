"""A whole pipeline on held-out slides: what papers tabulate and what keeps such tables honest, in one report.

Held-out fields are split into A and B. Synthetic images are made from A's embeddings and held against B; the floor is
the distance from A to B, with as many images. Beside the patches stand large images, cut at the same places: what
windows cost; the autoencoder alone: what no denoiser can better; and similarity, seams, diversity and memorisation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchloom.datasets.dataset import Plot, check_splits, open_dataset
from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.lpips import Lpips
from patchloom.errors import InputError, MismatchError, MissingError
from patchloom.evaluation.comparison import Effort
from patchloom.evaluation.html import write_page
from patchloom.evaluation.report import Report, report, table, write_report
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings, settled
from patchloom.trials import held_out
from patchloom.trials.composed import compose
from patchloom.trials.evaluate import Bars, others, silent
from patchloom.trials.figures import figures_of
from patchloom.trials.held_out import HeldOut, Making, Size, hold_out, turn
from patchloom.trials.measuring import Measuring
from patchloom.trials.page import pictures
from patchloom.trials.sides import Cut, Pictures, open_side

REPORT, PAGE, TABLE, CLAIM = "report.json", "report.html", "report.txt", "evaluation.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and the slides that could not be."""

    report: Report
    slides: tuple[HeldOut, ...]
    broken: tuple[tuple[str, str], ...]  # name and reason


def evaluate_pipeline(
    pipeline: Pipeline,
    test: Path,
    folder: Path,
    *,
    training: Path | None = None,
    encoders: Sequence[Encoder] = (),
    settings: Settings | None = None,
    size: Size | None = None,
    lpips: Lpips | None = None,
    bars: Bars = silent,
) -> Evaluation:
    """Measure a pipeline on the test split of a table, with all pictures and the report in `folder`.

    `training` is the dataset or table that the pipeline was trained on: it chooses principal axes, and is searched for
    copies. `encoders` measure beside the pipeline's own, in which no model should be judged alone; `lpips` what the
    autoencoder keeps. The same call goes
    on where an earlier one ended; a slide that cannot be read is named in the report. Raises MismatchError where a
    group of the test is among the training groups, or `folder` holds another evaluation; InputError where no slide
    is left.
    """
    size, settings = size or Size(), settings or Settings()
    entries = _entries(test, size)
    seen = _training(pipeline, training, entries, size, settings.seed)
    _claim(folder, pipeline, entries, size, settings)
    making = Making(pipeline, pipeline.encoder(), settings, size)
    slides, broken = _held_out(making, entries, folder, bars)
    entries = entries_of(slides, entries)
    for held, entry in compose(making, slides, entries, folder, bars):
        slides, entries = [*slides, held], [*entries, entry]
    own = others(making.encoder, encoders)
    measuring = Measuring(pipeline, settings, folder, seen, Effort(seed=settings.seed), bars, lpips)
    made = figures_of(measuring, slides, entries, [making.encoder, *own])
    notes = [*_notes(pipeline, slides, broken, seen), *_judges(making.encoder, own)]
    found = report(f"{pipeline.record.name} on {test.name}", made.entries, notes)
    write_report(found, folder / REPORT)
    write_page(found, folder / PAGE, [*pictures(measuring, slides, entries), *made.beside])
    (folder / TABLE).write_text(table(found), encoding="utf-8")
    return Evaluation(found, tuple(slides), tuple(broken))


def _entries(test: Path, size: Size) -> list[Entry]:
    """The test slides of a table, at most `size.slides` of them evenly spread over it."""
    every = read_manifest(test)
    check_splits(tuple(_stub(entry) for entry in every))
    found = [entry for entry in every if entry.split == "test"]
    if not found:
        raise InputError(f"`{test}` names no slide of split `test`")
    if size.slides is None or size.slides >= len(found):
        return found
    return [found[int(place)] for place in np.linspace(0, len(found) - 1, size.slides).round()]


def _stub(entry: Entry) -> Plot:
    return Plot(entry.key, entry.name, entry.group, entry.split, entry.licence, entry.label, (0, 0, 0, 0), 0.0)


def _training(
    pipeline: Pipeline, path: Path | None, entries: Sequence[Entry], size: Size, seed: int
) -> Pictures | None:
    if path is None:
        return None
    if path.suffix.lower() == ".csv":
        seen = {entry.group for entry in read_manifest(path) if entry.split != "test"}
    else:
        seen = {plot.group for plot in open_dataset(path).record.plots if plot.split != "test"}
    leaking = sorted({entry.group for entry in entries} & seen)
    if leaking:
        raise MismatchError(
            f"{len(leaking)} patients or places of the test are in the training data: {', '.join(leaking[:10])}. "
            "Figures on them would be false; leave them out of the test"
        )
    cut = Cut(pipeline.record.patch_px, None, pipeline.pixel_size, size.training, seed)
    return open_side(path, cut, "train")


def _claim(folder: Path, pipeline: Pipeline, entries: Sequence[Entry], size: Size, settings: Settings) -> None:
    """Note what is evaluated and how; refuse to mix it with anything else."""
    values: dict[str, Any] = {
        "pipeline": pipeline.identity,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "size": asdict(size),
        "settings": asdict(settled(pipeline, settings)),
        "slides": [[entry.name, entry.group, str(entry.pixel_size)] for entry in entries],
    }
    text, path = json.dumps(values, indent=1) + "\n", folder / CLAIM
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise MismatchError(
            f"`{folder}` holds the evaluation of another pipeline, size, seed or table (see `{path}`); name another "
            "folder, or delete this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _held_out(
    making: Making, entries: Sequence[Entry], folder: Path, bars: Bars
) -> tuple[list[HeldOut], list[tuple[str, str]]]:
    slides: list[HeldOut] = []
    broken: list[tuple[str, str]] = []
    advance, counts = bars("slides"), Counter(entry.group for entry in entries)
    for number, entry in enumerate(entries):
        turned = turn(entry.group, [slide.group for slide in slides], counts[entry.group])
        # What slides before had too few places for falls to this one.
        wanted = -(-making.size.cells * (number + 1) // len(entries)) - sum(slide.varied for slide in slides)
        try:
            slides.append(hold_out(making, entry, turned, wanted, folder / "slides" / entry.key, bars))
        except MismatchError:
            raise
        except (InputError, MissingError) as error:
            broken.append((entry.name, str(error)))
        advance(number + 1, len(entries))
    if not slides:
        raise InputError("no slide of the test could be used: " + "; ".join(f"{n}: {why}" for n, why in broken[:3]))
    return slides, broken


def entries_of(slides: Sequence[HeldOut], entries: Sequence[Entry]) -> list[Entry]:
    """The entry of each finished slide."""
    by_name = {entry.name: entry for entry in entries}
    return [by_name[slide.name] for slide in slides]


def _notes(
    pipeline: Pipeline, slides: Sequence[HeldOut], broken: Sequence[tuple[str, str]], seen: Pictures | None
) -> Iterator[str]:
    patch = pipeline.record.patch_px
    large = [slide for slide in slides if held_out.is_large(slide, patch)]
    whole = [slide for slide in slides if not slide.composed]
    groups = {slide.group for slide in whole}
    counts = [sum(len(slide.half(half)) for slide in whole) for half in "AB"]
    yield (
        f"{len(whole)} held-out slides of {len(groups)} patients or places; {counts[0]} patches of {patch} px in "
        f"half A, {counts[1]} in half B, in fields of {held_out.FIELD * patch} px that alternate like a chessboard, so "
        "both halves show the same slides; intervals resample fields, not patients"
    )
    shapes = ", ".join(sorted({f"{slide.region[3]}x{slide.region[2]}" for slide in large})) or "none"
    yield f"{len(large)} large images, {shapes} px; crops are cut at the places of the patches of half A"
    if mixed := [slide for slide in large if slide.composed]:
        parts = len(mixed[0].places)
        yield f"{len(mixed)} of the large images are composed of the embeddings of {parts} small slides of half A each"
    yield "synthetic images are lossless; real ones are as their files were"
    if seen is None:
        yield "no training data was named: no principal axes, no search for copies, no check for leaks"
    yield from (f"not measured: {Path(name).name}: {reason}" for name, reason in broken)


def _judges(own: Encoder, others: Sequence[Encoder]) -> Iterator[str]:
    yield f"{own.spec.name} conditioned the pipeline: it is no judge by itself"
    same = [each.spec.name for each in others if each.spec.digest == own.spec.digest]
    if same:
        yield f"{', '.join(same)} has the weights of {own.spec.name} at another size: no independent judge either"
    elif not others:
        yield "no other network was named"
