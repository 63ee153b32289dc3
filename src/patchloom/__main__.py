"""`python -m patchloom`, and `torchrun -m patchloom` for the verbs that share their work among processes."""

from __future__ import annotations

from patchloom.cli.main import main

if __name__ == "__main__":
    main(prog_name="patchloom")
