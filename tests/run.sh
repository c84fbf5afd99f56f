#!/usr/bin/env bash
# Lint, types and tests, in an environment of its own (.venv, made when missing) or in the one named in VENV.
#
#   bash tests/run.sh                     lint, types, all unit tests on all cores, then trainings through verl's trainer
#   bash tests/run.sh --ci                and the tests marked ci: half as long again
#   bash tests/run.sh --all               and the tests marked slow: hours
#   bash tests/run.sh -m "not e2e"        arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/quickstart/env.sh

if [ -z "${VENV:-}" ]; then
    VENV=.venv
    ensure_cpu_env "$VENV" dev
fi
[ -x "$VENV/bin/python" ] || die "VENV=$VENV has no bin/python"

"$VENV/bin/python" -m ruff check .
"$VENV/bin/python" -m ruff format --check .
"$VENV/bin/python" -m mypy
case ${1:-} in
    "") left_out=" and not slow and not ci" ;;
    --ci) left_out=" and not slow" ;;
    --all) left_out="" ;;
    *) exec "$VENV/bin/python" -m pytest "$@" ;;
esac
# What is judged by its time does not run beside trainings. A training takes 7 to 10 GB and waits for half of its start:
# two side by side are faster, even on two cores. The slow ones take more.
at_once=1
[ -z "$left_out" ] || [ "$(free_memory_gb)" -lt 20 ] || at_once=2
"$VENV/bin/python" -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not e2e$left_out"
exec "$VENV/bin/python" -m pytest -n "$at_once" --dist worksteal -m "e2e$left_out"
