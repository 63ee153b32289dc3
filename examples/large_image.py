"""The whole method on one page: a reference image in, a synthetic large image out.

    python examples/large_image.py REFERENCE.jpg OUT.png [PIPELINE]

What `patchloom generate` does with its defaults, laid bare: the loop over noise levels, the windows, the cores, the
guidance. It holds the canvas in memory and knows no interruption; `patchloom.pipelines.generate` makes the same picture
at any size, up to the last bit of the network's arithmetic, in whatever batches.
Graikos, Yellapragada et al., "Learned representation-guided diffusion models for large-image generation", CVPR 2024.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import SAMPLERS
from patchloom.diffusion.stage import State
from patchloom.diffusion.windows import windowed
from patchloom.encoders.slide import embed_slide
from patchloom.fields.noise import Noise
from patchloom.geometry import Box, Frame
from patchloom.loom.decode import decode_windows
from patchloom.loom.plan import Plan
from patchloom.loom.scene import GridScene
from patchloom.pipelines.pipeline import load_pipeline


def main(reference: Path, out: Path, name: str = "he-foundation") -> None:
    """Make `out`, as large as `reference`, with the layout that the reference's embeddings describe."""
    pipeline = load_pipeline(name)
    spec, own = pipeline.record, pipeline.record.defaults

    # 1. The reference becomes a grid of embeddings. From here on, nobody looks at its pixels again.
    grid = embed_slide(
        reference,
        pipeline.encoder(),
        pixel_size=pipeline.pixel_size,
        slide_pixel_size=pipeline.pixel_size,
        cell_px=spec.condition.cell_px,
        stride_px=min(spec.condition.strides_px),
    )

    # 2. The scene answers, for any window of the canvas, what should be seen there.
    scene = GridScene.of(grid, spec.factor)
    height, width = (side // spec.factor for side in grid.canvas)

    # 3. Noise is a function of place: the same seed is the same world, whatever is made of it, in whatever order.
    frame = Frame(height, width, spec.channels, "float32")
    canvas = Noise(0, 0, frame).read(Box(0, 0, height, width))

    # 4. A sampler is a list of stages; each asks for the expected clean canvas once and moves the canvas towards it.
    sigmas = karras(own.steps, own.sigma_min, own.sigma_max)
    stages = SAMPLERS[own.sampler](sigmas)

    # What the grid says counts more than once: the answer is led away from what the network would say without it.
    denoiser = guided(pipeline.denoiser, own.guidance, interval=own.guidance_interval, rescale=own.guidance_rescale)

    # 5. A large canvas does not fit into the network, so windows of it are asked, and of each answer the core is kept.
    #    The lattice moves from stage to stage: no line is a border twice in a row, and no border is ever seen.
    plan = Plan.of("halo", own.window, own.core)
    lattices = plan.lattices((height, width), [stage.sigma for stage in stages])

    state: State = (torch.from_numpy(canvas)[None] * float(sigmas[0]),)
    with torch.no_grad():
        for stage, lattice in zip(stages, lattices, strict=True):
            expected = windowed(denoiser, lattice, batch=1)(state[0], torch.tensor([stage.sigma]), scene)
            state = stage.update(state, expected, None)
            print(f"sigma {stage.sigma:8.4f}: {len(lattice)} window(s)", file=sys.stderr)

        # 6. Latents become pixels; the outermost ones go on beyond the edges.
        pixels = decode_windows(state[0], pipeline.autoencoder)[0]
    Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())).save(out)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
