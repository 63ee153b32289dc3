"""A whole run, to the last byte of its pyramid, killed at random moments and repeated until it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ROOT

from patchloom.fields.directory import DirectoryStore
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_canvas, weave_down
from patchloom.pyramids.image import write_image

# A store's writes and a pyramid's writes are the moments at which a kill could leave something half done; the process
# ends itself at the n-th system call that writes, truncates or renames, before it or after it.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.loom.test_kills import finish

countdown = int(sys.argv[3])

def deadly(call):
    def wrapped(*arguments, **named):
        global countdown
        countdown -= 1
        if countdown == 0 and sys.argv[4] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(*arguments, **named)
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return wrapped

for name in ("pwrite", "open", "truncate", "ftruncate", "unlink"):
    setattr(os, name, deadly(getattr(os, name)))
Path.replace = deadly(Path.replace)
finish(Path(sys.argv[1]), sys.argv[2])
"""


def finish(folder: Path, order: str) -> Path:
    """Make the picture, or go on with it; nothing is left in the folder but the picture and the store."""
    from tests.loom.test_forecast import decoder
    from tests.loom.test_orders import run, stages

    one = run(stages=stages("dpmpp-2m", 4), batch=4)
    weave = weave_canvas if order == "canvas" else weave_down
    with DirectoryStore(folder / "store", {"seed": 5}) as store:
        write_image(decode_field(weave(one, store), decoder(), tile=16), folder / "out.tif", compression="deflate")
    return folder / "out.tif"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return finish(tmp_path_factory.mktemp("whole"), "canvas").read_bytes()


def killed(folder: Path, order: str, countdown: int, moment: str) -> bool:
    """Run until the kill; whether it came."""
    command = [sys.executable, "-c", KILLED, str(folder), order, str(countdown), moment]
    code = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def moments(order: str) -> list[tuple[int, str]]:
    random = np.random.default_rng(len(order))
    return [(int(random.integers(1, 90)), "before" if random.random() < 0.5 else "after") for _ in range(KILLS)]


KILLS = int(os.environ.get("PATCHLOOM_KILLS", "1"))  # of each order: an interpreter starts for each


@pytest.mark.parametrize("order", ["canvas", "down"])
def test_a_run_killed_again_and_again_ends_with_the_same_file(order: str, tmp_path: Path, expected: bytes) -> None:
    came = [killed(tmp_path, order, countdown, moment) for countdown, moment in moments(order)]
    assert came[0], "the first kill comes before the end"
    made = finish(tmp_path, order)
    assert made.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".part") == ["out.tif", "store"]
