#!/usr/bin/env bash
# The study: trains what is not trained yet, then draws tables and figures from all results.
#
#   bash benchmarks/study/run.sh                  everything: hours; interrupted, the same command goes on
#   bash benchmarks/study/run.sh --only smoke     two methods, one seed, both engines, 5 to 10 min
#   bash benchmarks/study/run.sh --list           what is done and what is left
#   bash benchmarks/study/run.sh --rerun 2        two finished runs drawn by chance, from scratch, against their bands
#   bash benchmarks/study/run.sh --help           the other options
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV=${VENV:-.venv}
if [ -e "$VENV/bin/python" ]; then # --help is the runner's, where it can be asked
    source examples/quickstart/env.sh ""
else
    source examples/quickstart/env.sh
fi
ensure_cpu_env "$VENV"
export OMP_NUM_THREADS=1 VERL_LOGGING_LEVEL=ERROR TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
"$VENV/bin/python" -W ignore -m benchmarks.study.runner "$@"
[ $# -gt 0 ] || "$VENV/bin/python" -m benchmarks.study.analysis
