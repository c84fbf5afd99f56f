#!/usr/bin/env bash
# Lint, types and tests, in an environment of its own (.venv, made when missing) or in the one named in VENV.
#
#   bash tests/run.sh                     lint, types, all unit tests on all cores, then trainings through verl's trainer
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
if [ $# -gt 0 ] && [ "$1" != --all ]; then
    exec "$VENV/bin/python" -m pytest "$@"
fi
slow=" and not slow"
[ "${1:-}" != --all ] || slow=""
# A training takes all cores, so trainings run one at a time; what is judged by its time does not run beside them.
"$VENV/bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not e2e$slow"
exec "$VENV/bin/python" -m pytest -m "e2e$slow"
