#!/usr/bin/env bash
# What a GPU makes of this package: values against the CPU's, speed beside verl's, a training of three steps. One page, in
# minutes, offline.
#
#   bash examples/gpu_check.sh                     exit status 0, 1 where something failed, 2 without a GPU
#   PYTHON=/path/to/python bash examples/gpu_check.sh       the python of your verl environment; torch alone is enough
#   DEVICE=cpu bash examples/gpu_check.sh          parts 1 and 2 without a GPU
#   bash examples/gpu_check.sh --parts 1 2         these parts only (benchmarks/gpu_check/)
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/quickstart/env.sh

DEVICE=${DEVICE:-cuda}
OUT=${OUT:-outputs/gpu_check}
case $DEVICE in
    cpu)
        VENV=${VENV:-.venv}
        ensure_cpu_env "$VENV"
        PYTHON=$VENV/bin/python
        export VERL_PLATFORM=cpu ;;
    cuda)
        PYTHON=${PYTHON:-python3}
        "$PYTHON" -c 'import torch' 2> /dev/null || die "no torch in $PYTHON; name the python of your verl environment: PYTHON=/path/to/python" ;;
    *) die "DEVICE=$DEVICE is unknown; choose cuda or cpu" ;;
esac
exec "$PYTHON" -m benchmarks.gpu_check --device "$DEVICE" --out "$OUT" "$@"
