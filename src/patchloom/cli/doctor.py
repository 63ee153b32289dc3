"""`patchloom doctor`: what of Patchloom works on this machine, and what is missing for the rest."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from patchloom import __version__
from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import FormatError

# Package, what it is for, and how it is had where it is not installed.
_PARTS = (
    ("openslide-python", "slides of scanners", "pip install openslide-python openslide-bin"),
    ("tifffile", "TIFF pyramids in and out", "pip install tifffile imagecodecs"),
    ("rasterio", "GeoTIFF", "pip install 'patchloom[geo]'"),
    ("h5py", "feature files of other labs", "pip install 'patchloom[features]'"),
    ("transformers", "encoders on the hub", "pip install 'patchloom[hub]'"),
    ("huggingface-hub", "weights on the hub", "pip install 'patchloom[hub]'"),
    ("timm", "encoders of timm", "pip install 'patchloom[timm]'"),
    ("distributed", "--cluster", "pip install 'patchloom[cluster]'"),
    ("diffusers", "nothing: folders of diffusers are read and written without it", "pip install diffusers"),
)


@click.command()
@click.option(
    "--encoder", metavar="NAME|FOLDER", help="Load this encoder, embed a picture with it, and say what it is."
)
@options.device
@options.as_json
def doctor(encoder: str | None, device: str, as_json: bool) -> None:
    """Say what works on this machine, and what is missing for the rest.

    Lists the machine and its fastest precision, the packages that are optional, and every known encoder and LPIPS:
    where weights lie, or where they are had. Nothing is downloaded. Exit status 1 where `--encoder` cannot be loaded.
    """
    if encoder is not None:
        emit(_tried(encoder, device), as_json)
        return
    from patchloom.encoders.known_here import lpips_standings, standings
    from patchloom.encoders.known_weights import WEIGHTS, weights_folder

    rows, learned = ([asdict(row) for row in these()] for these in (standings, lpips_standings))
    facts: dict[str, Any] = {
        "machine": _machine(device),
        "packages": [_part(*part) for part in _PARTS],
        "weights_folder": str(weights_folder() or f"none: set {WEIGHTS} to keep weights in one"),
        "encoders": rows,
        "lpips": learned,
    }
    if as_json:
        emit(facts, as_json=True)
        return
    parts = [{**part, "found": part["found"] or "no"} for part in facts["packages"]]
    emit({**facts, "packages": parts, "encoders": _parted(rows), "lpips": _parted(learned)}, as_json=False)


def _parted(rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What is usable, and what is not, each with where or why."""
    return {
        "usable": {row["name"]: row["why"] for row in rows if row["usable"]},
        "not_usable": {row["name"]: row["why"] for row in rows if not row["usable"]},
    }


def _machine(name: str) -> dict[str, Any]:
    """The device that networks would run on, and what they would compute in."""
    import torch

    from patchloom.machine import choose_device, fastest

    device = choose_device(name)
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else _memory()
    return {
        "patchloom": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": str(fastest(device)).removeprefix("torch."),
        "memory": _gib(memory),
        "free_disk_here": _gib(shutil.disk_usage(Path.cwd()).free),
    }


def _memory() -> int | None:
    """Of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _gib(size: int | None) -> str | None:
    return None if size is None else f"{size / 2**30:.1f} GiB"


def _part(package: str, purpose: str, install: str) -> dict[str, Any]:
    try:
        return {"package": package, "found": version(package), "for": purpose}
    except PackageNotFoundError:
        return {"package": package, "found": None, "for": purpose, "install": install}


def _tried(name: str, device: str) -> dict[str, Any]:
    """An encoder loaded and asked once; raises what `load_encoder` raises, or FormatError for no numbers."""
    import torch

    from patchloom.encoders.registry import load_encoder
    from patchloom.machine import choose_device

    encoder = load_encoder(name, choose_device(device))
    spec = encoder.spec
    grey = torch.full((1, 3, spec.input_px, spec.input_px), 128, dtype=torch.uint8)
    if not encoder(grey).isfinite().all():
        raise FormatError(f"encoder `{name}` loads, but gives infinite or undefined values for a grey picture")
    return asdict(spec)
