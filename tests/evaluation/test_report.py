from __future__ import annotations

import json
from math import inf
from pathlib import Path

import numpy as np
import pytest

from patchloom.errors import FormatError, MissingError
from patchloom.evaluation.diversity import diversity
from patchloom.evaluation.entries import of_diversity, of_memorisation, of_reconstruction, of_seams, of_similarity
from patchloom.evaluation.estimates import Absent, Entry, Estimate, FeatureSpace, Figure, Floor, Interval, Side
from patchloom.evaluation.memorisation import memorisation
from patchloom.evaluation.reconstruction import Fidelity
from patchloom.evaluation.report import Report, read_report, report, table, to_json, write_report
from patchloom.evaluation.similarity import similarity

SPACE = FeatureSpace("tiny", "sha256:" + "ab" * 32, 30, "antialiased bicubic to 224 px")
REAL, MADE = Side("fields B", 120, "jpeg"), Side("synthetic", 90, "png")
ESTIMATE = Estimate(
    1.23456,
    (60, 60),
    Interval(1.0, 1.5, 0.95, "bootstrap, 200 resamples of 60 rows"),
    Floor(0.5, 0.4, 0.6, 60, 10, "disjoint random halves"),
    "first 6 principal axes",
    ("biased upward",),
)


def made() -> Report:
    entries: list[Entry] = [
        Figure("frechet_axes", ESTIMATE, SPACE, (REAL, MADE)),
        Absent("recall", "3 nearest neighbours were asked of 2 images"),
        Figure("seam: last stage", Estimate(1.01, (59, 11)), None, (MADE,)),
    ]
    return report("he-small, held-out cases", entries, ["seven regions of seven cases"])


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(made(), path)
    assert read_report(path) == made()
    assert json.loads(path.read_text()) == to_json(made())
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
    first = path.read_bytes()
    write_report(made(), path)
    assert path.read_bytes() == first


def test_the_json_holds_each_figure_with_all_that_it_depends_on() -> None:
    (frechet, seam) = to_json(made())["figures"]
    assert frechet["estimate"]["value"] == 1.23456
    assert frechet["estimate"]["n"] == [60, 60]
    assert frechet["estimate"]["interval"]["method"] == "bootstrap, 200 resamples of 60 rows"
    assert frechet["estimate"]["floor"]["value"] == 0.5
    assert frechet["space"]["digest"] == SPACE.digest
    assert frechet["space"]["resizer"] == "antialiased bicubic to 224 px"
    assert [side["codec"] for side in frechet["sides"]] == ["jpeg", "png"]
    assert seam["space"] is None
    assert to_json(made())["absent"][0]["reason"].startswith("3 nearest")


def test_the_table_says_the_same_in_words() -> None:
    lines = table(made()).splitlines()
    row = next(line for line in lines if line.startswith("frechet_axes !"))
    assert row.split() == [
        "frechet_axes",
        "!",
        "1.235",
        "1",
        "to",
        "1.5",
        "0.5",
        "(N",
        "60)",
        "60",
        "/",
        "60",
        "1",
        "1+2",
    ]
    assert f"space 1: tiny, {SPACE.digest}, 30-d, antialiased bicubic to 224 px" in lines
    assert "side 1: fields B, 120 images, codec jpeg" in lines
    assert "intervals: 95%" in lines
    assert "! frechet_axes: biased upward" in lines
    assert "absent recall: 3 nearest neighbours were asked of 2 images" in lines
    assert "note: seven regions of seven cases" in lines
    assert next(line for line in lines if line.startswith("seam: last stage ")).split()[4:6] == ["none", "none"]


def test_an_absent_figure_is_found_as_absent() -> None:
    assert isinstance(made().figure("recall"), Absent)
    assert isinstance(made().figure("frechet_axes"), Figure)
    assert made().figure("precision") is None


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(MissingError):
        read_report(path)
    path.write_text(json.dumps({**to_json(made()), "format": 2}))
    with pytest.raises(FormatError, match="format 2, this version reads 1"):
        read_report(path)
    path.write_text('{"title": "x"}')
    with pytest.raises(FormatError, match="missing"):
        read_report(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_report(made(), path)
    before = path.read_bytes()

    def full(self: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_report(report("other", []), path)
    assert path.read_bytes() == before


def names(entries: tuple[Entry, ...], kind: type) -> list[str]:
    return [entry.name for entry in entries if isinstance(entry, kind)]


def test_similarity_without_a_ceiling_says_so() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(2, 1, (30, 8))
    entries = of_similarity(similarity(cells, cells + rng.normal(size=(30, 8))), SPACE, (REAL, MADE))
    assert names(entries, Absent) == [
        f"similarity_{view}_{part}" for view in ("raw", "centred") for part in ("ceiling", "share_of_way")
    ]
    raw = entries[0]
    assert isinstance(raw, Figure)
    assert raw.estimate.floor is not None
    assert raw.estimate.floor.value < raw.estimate.value
    whole = of_similarity(similarity(cells, cells, cells), SPACE, (REAL, MADE))
    assert len(names(whole, Figure)) == 8
    assert names(whole, Absent) == []


def test_every_other_measurement_becomes_entries() -> None:
    rng = np.random.default_rng(0)
    seams = of_seams({"last stage": Estimate(1.0, (5, 2)), "decode tiles": Absent("decode tiles", "none")}, MADE)
    assert (names(seams, Figure), names(seams, Absent)) == (["seam: last stage"], ["seam: decode tiles"])
    cube = of_diversity(diversity(rng.normal(size=(6, 3, 4)), repeats=50), SPACE, MADE)
    assert names(cube, Figure) == ["diversity_per_condition"]
    found = memorisation(rng.normal(size=(40, 4)), rng.normal(size=(20, 4)), rng.normal(size=(20, 4)), repeats=50)
    assert len(names(of_memorisation(found, SPACE, (REAL, REAL, MADE)), Figure)) == 2
    assert table(report("all", [*seams, *cube]))


def test_an_infinite_psnr_is_absent_and_its_ssim_is_not() -> None:
    ours = [Fidelity(inf, 1.0), Fidelity(30, 0.9)]
    theirs = [Fidelity(22.0, 0.6), Fidelity(21, 0.5)]
    entries = of_reconstruction(ours, theirs, (REAL,))
    assert names(entries, Absent) == ["reconstruction_psnr", "reconstruction_psnr_over_bicubic"]
    assert names(entries, Figure) == [
        "bicubic_psnr",
        "reconstruction_ssim",
        "bicubic_ssim",
        "reconstruction_ssim_over_bicubic",
    ]
    over = entries[-1]
    assert isinstance(over, Figure)
    assert over.estimate.value == pytest.approx(0.4)


def test_a_perceptual_distance_stands_where_every_picture_has_one() -> None:
    ours, theirs = [Fidelity(30, 0.9, 0.4), Fidelity(28, 0.8, 0.6)], [Fidelity(22, 0.6, 1.5), Fidelity(21, 0.5, 1.7)]
    found = {entry.name: entry for entry in of_reconstruction(ours, theirs, (REAL,))}
    over = found["reconstruction_perceptual_over_bicubic"]
    assert isinstance(over, Figure)
    assert over.estimate.value == pytest.approx(0.5 - 1.6)
    assert "not LPIPS" in over.estimate.how
    without = of_reconstruction(ours, [*theirs[:1], Fidelity(21, 0.5)], (REAL,))
    assert not any("perceptual" in entry.name for entry in without)


def test_lpips_says_which_network_it_is_of() -> None:
    ours, theirs = [Fidelity(30, 0.9, 0.4, 0.1)] * 2, [Fidelity(22, 0.6, 1.5, 0.4)] * 2
    found = {entry.name: entry for entry in of_reconstruction(ours, theirs, (REAL,), lpips="lpips-vgg16, sha256:ab")}
    over = found["reconstruction_lpips_over_bicubic"]
    assert isinstance(over, Figure)
    assert over.estimate.value == pytest.approx(0.1 - 0.4)
    assert over.estimate.how.endswith("LPIPS (Zhang et al. 2018); lpips-vgg16, sha256:ab")
    assert not any("lpips" in entry.name for entry in of_reconstruction(ours, [Fidelity(22, 0.6, 1.5)] * 2, (REAL,)))


def test_what_holds_in_two_spaces_is_said_once() -> None:
    other = FeatureSpace("other", "sha256:" + "cd" * 32, 30, "none")
    entries = [Figure("frechet_axes", ESTIMATE, space, (REAL, MADE)) for space in (SPACE, other)]
    lines = table(report("two spaces", entries)).splitlines()
    assert sum(line.startswith("frechet_axes:") for line in lines) == 1
    assert "! frechet_axes: biased upward" in lines
