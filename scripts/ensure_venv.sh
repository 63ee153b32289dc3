#!/usr/bin/env bash
# Brings .venv in the project's folder up to date with pyproject.toml and constraints/, and returns at once
# when nothing changed since the last time. test.sh and demo.sh call it; it can be run by itself.
#
#   PYTHON=python3.12      the interpreter that .venv is made with (default: the first of 3.11, 3.12, ... found)
#   PATCHLOOM_TORCH=cuda   PyTorch's CUDA build on Linux (default: cpu); remembered until it is said otherwise
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
stamp=.venv/patchloom.stamp
choice=.venv/patchloom.torch

say() { echo "patchloom: $*" >&2; }
fail() { say "$@"; exit 1; }

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if recent "$name"; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer was found${PYTHON:+ under the name \`$PYTHON\`}." \
        "Install one (Debian and Ubuntu: \`apt install python3 python3-venv\`; macOS: \`brew install python@3.12\`)" \
        "or name it: \`PYTHON=/path/to/python3.12 $0\`."
}

make_venv() {
    local base
    base=$(find_python)
    say "making .venv with $("$base" --version)"
    "$base" -m venv --clear .venv >&2 ||
        fail "\`$base -m venv .venv\` did not work. On Debian and Ubuntu, install the package python3-venv."
}

fingerprint() {
    "$python" - "$torch" pyproject.toml constraints/*.txt <<'EOP'
import hashlib, pathlib, sys

digest = hashlib.sha256("\n".join((sys.version, str(pathlib.Path.cwd()), sys.argv[1])).encode())
for name in sys.argv[2:]:
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
EOP
}

pip_install() { "$python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }

# An ordinary index holds one build of torch for Linux, the CUDA one of some gigabytes. The CPU build is named
# VERSION+cpu: taken from pip's own settings where they offer it, else from PyTorch's CPU wheels, which uv knows.
install_cpu_torch() {
    pip_install "torch==$version+cpu" 2>/dev/null && return
    say "pip's settings offer no CPU build of torch $version; asking for PyTorch's own CPU wheels"
    pip_install uv && "$python" -m uv pip install --quiet --python "$python" --no-deps --torch-backend cpu \
        "torch==$version" >&2 && return
    say "PyTorch's CPU wheels are out of reach; taking the build of torch that pip's settings offer"
}

install_torch() {
    local version
    version=$(sed -n 's/^torch==//p' constraints/dev.txt)
    [ "$(uname -s)" = Linux ] || return 0 # elsewhere there is one build
    if [ "$torch" = cuda ]; then
        pip_install "torch==$version,!=$version+cpu" ||
            fail "pip's settings offer no CUDA build of torch $version for this machine;" \
                "run again with PATCHLOOM_TORCH=cpu, or see CONTRIBUTING.md, \"Installing torch\"."
    else
        install_cpu_torch
    fi
}

remembered=$(cat "$choice" 2>/dev/null || true)
torch=${PATCHLOOM_TORCH:-${remembered:-cpu}}
case $torch in
cpu | cuda) ;;
*) fail "PATCHLOOM_TORCH is \`$torch\`; it is cpu or cuda." ;;
esac

recent "$python" || make_venv
[ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ] && exit 0

say "installing into .venv (about 2 GB, some minutes the first time)"
rm -f "$stamp"
install_torch
pip_install --constraint constraints/dev.txt --editable ".[dev]" ||
    fail "the installation did not finish; pip's message stands above. Run the same command to try again."
echo "$torch" >"$choice"
fingerprint >"$stamp"
