#!/usr/bin/env bash
# Sets itself up into .venv, then regenerates a region of a real section from its embeddings into out/.
# Arguments go to `patchloom demo`, such as `--seed 1` or `-o FOLDER`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
scripts/ensure_venv.sh
exec .venv/bin/patchloom demo "$@"
