#!/usr/bin/env bash
# Lint, types and all tests, in an environment of its own (.venv, made when missing) or in the one named in VENV.
#
#   bash tests/run.sh                     everything but the tests marked slow; about 35 min on 2 cores
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
[ $# -gt 0 ] || set -- -m "not slow"
exec "$VENV/bin/python" -m pytest "$@"
