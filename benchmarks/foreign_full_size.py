"""Time and memory of a model of the official size: 400 M parameters, windows of 64 x 64 latents, VQ-f4 of 8192 codes.

    python benchmarks/foreign_full_size.py write --out FOLDER        random weights, exported to the official layout
    python benchmarks/foreign_full_size.py generate --out FOLDER     imported again, one image by the default plan
    python benchmarks/foreign_full_size.py official --out FOLDER     the official settings, on a smaller canvas
    python benchmarks/foreign_full_size.py token                     one token against two that say the same

The weights say nothing, so the picture shows nothing; what it costs is what a released model costs. `generate` and
`official` keep their tiles in FOLDER, go on where they were stopped, and say what all their turns took together;
`--seconds` of processor time, or Ctrl-C, end a turn. Processor seconds are of all threads, and hold on a machine that
does other things as well; FOLDER takes 3.5 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spent import Enough, Peak, Timed
from torch import Tensor, nn

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation
from patchloom.fields.directory import DirectoryStore
from patchloom.fields.field import ArrayField
from patchloom.importers.latent_diffusion import LatentDiffusion, import_checkpoint, of_parts
from patchloom.importers.ldm_export import export_checkpoint
from patchloom.importers.official import How, default_run, official_run
from patchloom.loom.blended import BlendedDecode
from patchloom.loom.orders import weave_canvas
from patchloom.loom.run import Run, figures
from patchloom.loom.slerp import SlerpScene
from patchloom.machine import DTYPES, choose_dtype
from patchloom.networks.ldm_files import LatentDenoiser
from patchloom.networks.ldm_tokens import EmbedderShape, TokenCondition, TokenEmbedder
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape
from patchloom.pyramids.image import write_image

DIM, PATCH_PX, CELL = 768, 256, 64  # of an embedding; of a patch, in pixels and in latents


def released() -> LatentDiffusion:
    """A model of the released shapes (NAIP, CRC), with random weights."""
    torch.manual_seed(0)
    parts = LatentDenoiser(
        LatentUNet(LatentUNetShape(blocks=(2, 2, 2, 2))),
        TokenEmbedder(EmbedderShape(DIM)),
        Parametrisation("eps", label=NoiseLabel("ddpm")),
    )
    return of_parts(parts, FirstStage(FirstStageShape(codes=8192)), PATCH_PX)


def write(folder: Path) -> dict[str, Any]:
    """Build, export, import; whether every tensor came back."""
    model = released()
    started = time.process_time()
    with Peak() as peak:
        export_checkpoint(model, folder)
        exported = time.process_time()
        again = import_checkpoint(folder)
        imported = time.process_time()
    pairs = ((model.network, again.network), (model.autoencoder, again.autoencoder), (model.embedder, again.embedder))
    same = all(_same(one, other) for one, other in pairs) and again.spec == model.spec
    return {
        "parameters": sum(value.numel() for value in model.network.parameters()),
        "first_stage": sum(value.numel() for value in model.autoencoder.parameters()),
        "gigabytes": round((folder / "checkpoints" / "last.ckpt").stat().st_size / 1e9, 2),
        "export_s": round(exported - started, 1),
        "import_s": round(imported - exported, 1),
        "equal": same,
        "peak_anonymous_mib": round(peak.mib),
    }


def _same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def _scene(model: LatentDiffusion, side: int) -> SlerpScene:
    cells = side // PATCH_PX
    embeddings = np.random.default_rng(0).standard_normal((cells, cells, DIM)).astype(np.float32)
    return SlerpScene.lattice(embeddings, CELL, model.embedder)


def _imported(folder: Path, dtype: torch.dtype) -> LatentDiffusion:
    model = import_checkpoint(folder)
    for part in (model.network, model.embedder, model.autoencoder):
        part.to(dtype)
    return model


def _measured(run: Run[TokenCondition], limit: float | None, store: Path) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """Figures of a run, as far as it got, and its latents where it came to the end."""
    timed = Timed(run.denoiser, most_cpu_seconds=float("inf") if limit is None else limit)
    latents: NDArray[Any] | None = None
    started = time.monotonic()
    with Peak() as peak, suppress(Enough, KeyboardInterrupt), DirectoryStore(store, {}) as kept:
        latents = weave_canvas(replace(run, denoiser=timed), kept).read(run.latents.box)
    whole, made = figures(run, 4).network_evaluations, timed.windows * run.evaluations(1.0)
    cpu = float(timed.seconds[1])
    found = {
        "evaluations_of_the_whole": whole,
        "evaluations_made": made,
        "processor_s": round(cpu, 1),
        "processor_s_each": round(cpu / max(made, 1), 3),
        "wall_s": round(time.monotonic() - started, 1),
        "peak_anonymous_mib": round(peak.mib),
        "finished": latents is not None,
    }
    return found, latents


def generate(folder: Path, side: int, dtype: torch.dtype, how: How, limit: float | None) -> dict[str, Any]:
    """One image by the default plan."""
    model = _imported(folder, dtype)
    run = default_run(model, _scene(model, side), (side // 4, side // 4), how)
    kept = folder / f"tiles-{side}-{len(run.stages)}"
    found, latents = _measured(run, limit, kept)
    found |= _of_all_turns(kept.with_suffix(".turns.jsonl"), found)
    if latents is not None:
        started = time.process_time()
        with Peak() as peak:
            write_image(BlendedDecode(ArrayField(latents), model.autoencoder, CELL, CELL // 2), folder / "made.png")
        found |= {"decode_processor_s": round(time.process_time() - started, 1), "decode_peak_mib": round(peak.mib)}
    return found


def _of_all_turns(log: Path, turn: dict[str, Any]) -> dict[str, Any]:
    """What this turn and those before it took together; `log` has a line for each."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(turn) + "\n")
    turns = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    totals = ("evaluations_made", "processor_s", "wall_s")
    together = {f"{name}_in_all": round(sum(one[name] for one in turns), 1) for name in totals}
    return {"turns": len(turns), **together, "peak_mib_in_all": max(one["peak_anonymous_mib"] for one in turns)}


def official(folder: Path, side: int, dtype: torch.dtype, how: How, limit: float | None) -> dict[str, Any]:
    """The official settings on a canvas of `side`, and how many evaluations they take on one of 1024 px."""
    model = _imported(folder, dtype)
    run = official_run(model, _scene(model, side), (side // 4, side // 4), how)
    whole = official_run(model, _scene(model, 1024), (256, 256), replace(how, steps=None))
    kept = folder / f"official-{side}-{len(run.stages)}"
    found, _ = _measured(run, limit, kept)
    found |= _of_all_turns(kept.with_suffix(".turns.jsonl"), found)
    at_full = figures(whole, 4).network_evaluations
    return found | {
        "evaluations_at_1024": at_full,
        "hours_at_1024": round(at_full * found["processor_s_in_all"] / found["evaluations_made_in_all"] / 3600, 2),
    }


def token(dtype: torch.dtype, batch: int, rounds: int = 3) -> dict[str, Any]:
    """Processor seconds of the network told one token, and told the same token twice, which is no constant to it."""
    network = released().network.to(dtype).eval()
    x, label = torch.randn(batch, 3, CELL, CELL).to(dtype), torch.full((batch,), 500.0)
    tokens = torch.randn(batch, 1, network.shape.context)
    best: dict[int, float] = {1: float("inf"), 2: float("inf")}
    answers: dict[int, Tensor] = {}
    with torch.no_grad():
        for count in [1, 2] * (rounds + 1):
            told = tokens.expand(-1, count, -1)
            started = time.process_time()
            answers[count] = network(x, label, TokenCondition(told, told)).float()
            if len(answers) == 2:  # the first of each warms up
                best[count] = min(best[count], time.process_time() - started)
    return {
        "one_token_s": round(best[1] / batch, 3),
        "computed_in_full_s": round(best[2] / batch, 3),
        "gain": round(1 - best[1] / best[2], 3),
        "largest_difference": float((answers[1] - answers[2]).abs().max()),
    }


def main() -> None:
    """Measure one thing, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "generate", "official", "token"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", type=int, help="of the canvas in pixels; default: 1024, of `official` 512")
    parser.add_argument("--steps", type=int, help="default: the recipe's own")
    parser.add_argument("--seconds", type=float, help="of processor time after which to stop")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="bf16")
    parser.add_argument("--batch", type=int, default=4, help="windows at a time")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    dtype = choose_dtype(asked.dtype, torch.device("cpu"))
    if asked.what == "token":
        found = token(dtype, asked.batch)
    elif asked.out is None:
        parser.error("say where to write with --out")
    elif asked.what == "write":
        found = write(asked.out)
    else:
        how = How(steps=asked.steps, batch=asked.batch)
        made = generate if asked.what == "generate" else official
        side = asked.side or (1024 if asked.what == "generate" else 512)
        found = made(asked.out, side, dtype, how, asked.seconds)
    sys.stdout.write(json.dumps({"what": asked.what, "dtype": str(dtype), **found}) + "\n")


if __name__ == "__main__":
    main()
