"""`patchloom evaluate encoders`: encoders side by side on labelled pictures."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import measured, options
from patchloom.cli.progress import progress


@click.command()
@click.argument("table", type=options.FILE)
@measured.encoders("efficientnet-lite0; those after the first are held against it")
@options.seed
@options.device
@options.dtype
@measured.reported
def encoders(
    table: Path,
    *,
    encoders: tuple[str, ...],
    seed: int,
    device: str,
    dtype: str,
    output: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """What encoders know of labelled pictures.

    A linear probe and the vote of the 20 nearest are trained on the `train` rows of TABLE and judged on its `test`
    rows: accuracy and balanced accuracy, with an interval by group, the floor that shuffled labels give, and for each
    encoder after the first its difference from the first on the same pictures. TABLE is a CSV file with columns file,
    group, split and label; a group is a patient or a place, and one that is in train and in test is refused. Pictures
    are square; each encoder resizes them to its own input.
    """
    from patchloom.evaluation.features import features
    from patchloom.evaluation.probe_labelled import open_labelled
    from patchloom.evaluation.probe_report import judge
    from patchloom.evaluation.report import report

    pictures = open_labelled(table)
    patches, labelled = pictures.patches, pictures.labelled
    networks = measured.networks(encoders or ("efficientnet-lite0",), device, dtype)
    with progress() as bar:
        found = [
            features(
                patches,
                one,
                resize_px=None if pictures.side_px else one.spec.input_px,
                progress=bar(f"embed, {one.spec.name}"),
            )
            for one in networks
        ]
    notes = (f"{len(labelled.classes)} labels: {', '.join(labelled.classes)}",)
    made = report(f"Encoders on {labelled.name}", judge(found, labelled, seed=seed), notes)
    measured.emit_report(made, output, html, as_json)
