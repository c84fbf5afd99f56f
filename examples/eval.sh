#!/usr/bin/env bash
# Evaluates finished trainings as the paper does: temperature 0.4, top-p 1, 5 responses to each problem of MATH-500 and
# OlympiadBench, 10 to each of AIME24, AIME25 and AMC23; accuracy and unbiased pass@k.
#
#   bash examples/eval.sh outputs/recipes/run_qwen3_4b/paper-seed1      the best checkpoint on MATH-500 of those kept
#   STEP=0 bash examples/eval.sh RUN                                    the model it began with; or any STEP kept
#   bash examples/eval.sh RUN RUN -- trainer.n_gpus_per_node=8          after --, Hydra overrides of verl
#
# It takes the GPUs and lengths of the training. Interrupted, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/common.sh

[ $# -gt 0 ] || die "name the folder of a training, such as outputs/recipes/run_qwen3_4b/paper-seed1"
choose_python
DATA=${DATA:-$([ "$SCALE" = tiny ] && echo "$OUT/data" || echo outputs/data)}
[ "$DEVICE" = cuda ] || export VERL_PLATFORM=cpu
arguments=()
for argument in "$@"; do # folders of trainings, the caller's, up to --
    [ "$argument" != -- ] || { arguments+=("${@:${#arguments[@]}+1}"); break; }
    if [ "${argument#/}" = "$argument" ] && [ -e "$CALLER/$argument" ]; then argument=$CALLER/$argument; fi
    arguments+=("$argument")
done
"$PYTHON" examples/evaluate.py --data "$DATA" ${STEP:+--step "$STEP"} "${arguments[@]}"
