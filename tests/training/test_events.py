"""The log, read by TensorBoard itself."""

from __future__ import annotations

import io
import json
from math import nan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from patchloom.training.events import Log


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_tensorboard_reads_figures_of_every_session(tmp_path: Path) -> None:
    for start in (0, 2):  # a run and its continuation
        log = Log(tmp_path)
        for step in range(start, start + 2):
            log.figures(100 * step, {"loss": 0.5 / (step + 1), "val/psnr": 20.0 + step})
        log.close()
    found = read(tmp_path)
    assert set(found.Tags()["scalars"]) == {"loss", "val/psnr"}
    assert [event.step for event in found.Scalars("loss")] == [0, 100, 200, 300]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx([0.5, 0.25, 0.5 / 3, 0.125])


def test_tensorboard_shows_the_very_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    log = Log(tmp_path)
    log.picture(7, "val/sheet", pixels)
    log.close()
    (event,) = read(tmp_path).Images("val/sheet")
    assert (event.step, event.height, event.width) == (7, 30, 50)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), pixels)


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.figures(1, {"loss": 1.0})
    log.close()
    (path,) = tmp_path.glob("events.*")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the last message, before its checksum
    path.write_bytes(data)
    assert read(tmp_path).Tags()["scalars"] == []


def test_lines_are_strict_json(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.figures(8, {"loss": 0.25, "gradient": nan})
    log.close()
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"seen": 8, "loss": 0.25, "gradient": None}
