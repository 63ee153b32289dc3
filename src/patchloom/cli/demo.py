"""`patchloom demo`: the main job on what comes with Patchloom."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.cli.progress import progress

LAST = ("paths", "embedding_similarity", "floor_shuffled", "ceiling_autoencoder")


@click.command()
@click.option("-o", "--output", type=options.FILE, default=Path("out"), show_default=True, help="Folder to write into.")
@options.seed
@options.device
@options.dtype
@options.as_json
def demo(*, output: Path, seed: int, device: str, dtype: str, as_json: bool) -> None:
    """Regenerate a region of a real section from its embeddings.

    Writes demo.tif, a pyramid; demo.png, the same picture; and demo.json, the figures that are printed.
    """
    from patchloom.trials.demo import demo as run

    with progress() as bar:
        facts = run(output, bar, seed=seed, device=device, dtype=dtype)
    ordered = {**{name: value for name, value in facts.items() if name not in LAST}, **{n: facts[n] for n in LAST}}
    emit(ordered, as_json)
