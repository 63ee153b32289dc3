#!/usr/bin/env bash
# Sets itself up into .venv, then checks everything: style, types, floors and tests. Arguments go to pytest.
# All parts run even where one fails; the exit status says whether all passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
scripts/ensure_venv.sh || exit 1

bin=.venv/bin
failed=()

check() { # NAME COMMAND...
    local name=$1
    shift
    echo "== $name"
    "$bin/$@" || failed+=("$name")
}

run_pytest() {
    local workers=()
    [ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ] && workers=(-n 2)
    echo "== tests"
    "$bin/pytest" ${workers[@]+"${workers[@]}"} "$@" 2>&1 | tee .venv/pytest.log || failed+=(tests)
}

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # a worker per core, a thread per worker
check style ruff check .
check format ruff format --check .
check types mypy
check floors lint-imports --no-logo
run_pytest "$@"

[ ${#failed[@]} -eq 0 ] && exit 0
echo "== failed: ${failed[*]}"
tail -n 1 .venv/pytest.log
exit 1
