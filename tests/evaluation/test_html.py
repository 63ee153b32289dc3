"""The page: networks side by side, every number as the report has it, a warning once."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Absent, Estimate, FeatureSpace, Figure, Floor, Interval, Side
from patchloom.evaluation.html import Beside, page, shrunk
from patchloom.evaluation.report import report

ONE, TWO = (FeatureSpace(name, f"sha256:{name * 8}", 4, "none") for name in ("one", "two"))
SIDES = Side("real <b>", 30, "jpeg"), Side("made", 20, "png")
ESTIMATE = Estimate(
    1.25, (30, 20), Interval(1, 1.5, 0.95, "bootstrap"), Floor(0.5, 0.4, 0.6, 20, 1, "halves"), "how & why"
)


def rows(text: str) -> dict[str, list[list[str]]]:
    """Cells by figure of the first table, without tags."""
    table = text.split("<table>")[1].split("</table>", maxsplit=1)[0]
    cells = [re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL) for row in table.split("<tr>")[1:]]
    return {row[0]: [re.sub("<br>|<.*?>", " ", cell).split() for cell in row[1:]] for row in cells}


def test_networks_stand_side_by_side() -> None:
    made = report(
        "a title",
        [
            Figure("kernel", ESTIMATE, ONE, SIDES),
            Figure("recall", ESTIMATE, ONE, SIDES),
            Figure("kernel", replace(ESTIMATE, value=7.5, interval=None, floor=None), TWO, SIDES),
            Figure("psnr", replace(ESTIMATE, value=27.0), None, SIDES[:1]),
        ],
    )
    found = rows(page(made))
    assert [cell[0] for cell in found["figure"]] == ["N", "one", "two", "without"]
    told = ["1.25", "1", "to", "1.5", "floor", "0.5"]
    assert found["kernel"] == [["30", "/", "20"], told, ["7.5"], []]
    assert found["recall"] == [["30", "/", "20"], told, [], []]
    assert found["psnr"][3][0] == "27"


def test_another_way_to_the_networks_size_is_no_column_of_its_own() -> None:
    whole = replace(ONE, resizer="whole images")
    found = rows(page(report("t", [Figure("kernel", ESTIMATE, ONE, SIDES), Figure("cmmd", ESTIMATE, whole, SIDES)])))
    assert [cell[0] for cell in found["figure"]] == ["N", "one"]
    assert found["cmmd"][1] == found["kernel"][1]


def test_a_warning_is_written_once_and_numbered_at_its_figures() -> None:
    few, codec = "few <images>", "codecs differ"
    entries = [
        Figure("kernel", replace(ESTIMATE, warnings=(few,)), ONE, SIDES),
        Figure("recall", replace(ESTIMATE, warnings=(codec, few)), ONE, SIDES),
    ]
    text = page(report("t", entries))
    assert text.count("few &lt;images&gt;") == 1
    assert "<ol class=small><li>few &lt;images&gt;</li><li>codecs differ</li></ol>" in text
    assert "<b>1.25</b><sup>1</sup>" in text
    assert "<b>1.25</b><sup>1, 2</sup>" in text


def test_what_files_say_is_no_markup_and_what_is_absent_is_said_once() -> None:
    missing = Absent("seam", "none <here>")
    text = page(report("<t>", [Figure("kernel", ESTIMATE, ONE, SIDES), missing, missing], ["a & b"]))
    assert "<b>seam</b>: none &lt;here&gt;" in text
    assert text.count("none &lt;here&gt;") == 1
    for told in ("&lt;t&gt;", "<li>a &amp; b</li>", "real &lt;b&gt; (30, jpeg)", "how &amp; why", "95%: bootstrap"):
        assert told in text


def test_pictures_stand_in_the_page_unchanged() -> None:
    import base64
    from io import BytesIO

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (3, 8, 12), dtype=np.uint8)
    text = page(report("t", []), [Beside("two", (("real", picture), ("made", 255 - picture)))])
    found = [Image.open(BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", text)]
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found[0]), -1, 0), picture)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found[1]), -1, 0), 255 - picture)


def test_shrinking_takes_means_of_whole_blocks() -> None:
    picture = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
    np.testing.assert_array_equal(shrunk(picture, 6), picture)
    assert shrunk(picture, 3)[0].tolist() == [[4, 6, 8], [16, 18, 20]]  # means, halves to the even neighbour
    with pytest.raises(InputError, match="at most 0 px"):
        shrunk(picture, 0)
