"""`python -m patchloom.training CONFIG`: `patchloom train` for a bare GPU image.

It needs torch, numpy, safetensors, pillow and pyyaml, and no installed command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from patchloom.errors import PatchloomError
from patchloom.training.checkpoint import Progress
from patchloom.training.config import read_config
from patchloom.training.journal import line
from patchloom.training.run import machine_of, outcome, train_config

INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: list[str] | None = None) -> int:
    """Train what the command line names; figures on stderr, what came of it as JSON on stdout. The exit status."""
    said = _parser().parse_args(arguments)
    try:
        config = read_config(said.config)
        machine = machine_of(said.device, said.dtype, said.compile)
        done = train_config(
            config,
            machine,
            resume=said.resume,
            seconds=said.seconds,
            report=_tell,
        )
    except PatchloomError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(json.dumps(outcome(config, done)) + "\n")
    return 0


def _tell(progress: Progress, figures: Mapping[str, float]) -> None:
    sys.stderr.write(line(progress, figures) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m patchloom.training", description="Train an autoencoder, an encoder or a denoiser."
    )
    parser.add_argument("config", type=Path, help="a YAML file with the fields of training/config.py")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    parser.add_argument("--seconds", type=float, help="stop after so long, with a checkpoint and an export")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on CUDA")
    return parser


if __name__ == "__main__":
    sys.exit(main())
