"""`patchloom doctor`: the machine, the optional packages, and how each encoder stands."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.encoders.test_vit import TINY_KNOWN, theirs

from patchloom.cli import doctor as doctor_module
from patchloom.cli.main import main
from patchloom.encoders.known import KNOWN
from patchloom.encoders.known_weights import WEIGHTS


def doctor(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["doctor", "--device", "cpu", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(autouse=True)
def _nothing_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(KNOWN, "tiny-vit", TINY_KNOWN)


def test_each_encoder_says_why_it_cannot_be_used() -> None:
    code, out, _ = doctor("--json")
    facts = json.loads(out)
    stands = {row["name"]: row for row in facts["encoders"]}
    assert code == 0
    assert set(KNOWN) < set(stands)
    assert stands["efficientnet-lite0"]["usable"]
    assert "ask for access" in stands["uni2-h"]["why"]
    assert "mahmoodlab/HIPT" in stands["hipt-vit256"]["why"]
    assert stands["virchow"]["licence"] == "Apache-2.0"
    assert not stands["tiny-vit"]["usable"]
    assert facts["machine"]["dtype"] in ("float32", "bfloat16")
    assert facts["machine"]["free_disk_here"].endswith("GiB")


def test_weights_in_the_users_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    _, file = theirs("vit", folder)
    file.rename(folder / "tiny-vit.safetensors")
    monkeypatch.setenv(WEIGHTS, str(folder))
    facts = json.loads(doctor("--json")[1])
    (row,) = [row for row in facts["encoders"] if row["name"] == "tiny-vit"]
    assert row["usable"]
    assert "tiny-vit.safetensors" in row["why"]
    lines = doctor()[1].splitlines()
    assert f"weights folder: {folder}" in lines
    place = next(number for number, line in enumerate(lines) if line.strip().startswith("tiny-vit: "))
    assert lines.index("  usable:") < place < lines.index("  not usable:")


def test_lpips_stands_by_its_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    for name in ("vgg16-397923af.pth", "vgg.pth", "alex.pth"):  # AlexNet lacks its trunk
        (tmp_path / name).touch()
    rows = {row["name"]: row for row in json.loads(doctor("--json")[1])["lpips"]}
    assert rows["lpips-vgg16"]["usable"]
    assert str(tmp_path / "vgg.pth") in rows["lpips-vgg16"]["why"]
    assert not rows["lpips-alexnet"]["usable"]
    assert "alexnet-owt-7be5be79.pth" in rows["lpips-alexnet"]["why"]


def test_one_encoder_is_loaded_and_asked(tmp_path: Path) -> None:
    _, file = theirs("vit", tmp_path)
    code, out, _ = doctor("--encoder", f"tiny-vit:{file}", "--json")
    assert code == 0
    assert json.loads(out)["dim"] == 16
    code, out, err = doctor("--encoder", "uni")
    assert (code, out) == (1, "")
    assert "ask for access" in err


def test_a_package_that_is_not_installed_says_how_it_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor_module, "version", absent)
    parts = {part["package"]: part for part in json.loads(doctor("--json")[1])["packages"]}
    assert parts["rasterio"] == {
        "package": "rasterio",
        "found": None,
        "for": "GeoTIFF",
        "install": "pip install 'patchloom[geo]'",
    }
