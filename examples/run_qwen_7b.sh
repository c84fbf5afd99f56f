#!/usr/bin/env bash
# Qwen2.5-Math-7B on MATH with AsymGRPO: 8 GPUs of 80 GB, FSDP2 and vLLM.
#
#   bash examples/run_qwen_7b.sh                           AsymGRPO (0.9 / 0.4)
#   METHOD=grpo bash examples/run_qwen_7b.sh               any +asymgrpo=METHOD (docs/methods.md)
#   DRY_RUN=1 bash examples/run_qwen_7b.sh                 checks everything, starts nothing
#   SCALE=tiny bash examples/run_qwen_7b.sh                this script on a CPU, in minutes
#   bash examples/run_qwen_7b.sh actor_rollout_ref.actor.optim.lr=5e-7      any Hydra override of verl
#
# Interrupted, the same command resumes. The settings are also knobs: LR=5e-7 bash ...
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/common.sh

MODEL=${MODEL:-Qwen/Qwen2.5-Math-7B}
NNODES=${NNODES:-1}
NGPUS_PER_NODE=${NGPUS_PER_NODE:-8}
TRAIN_BATCH=${TRAIN_BATCH:-1024}           # prompts a step
MINI_BATCH=${MINI_BATCH:-256}              # prompts an update
ROLLOUTS=${ROLLOUTS:-8}                    # responses a prompt
PROMPT_LENGTH=${PROMPT_LENGTH:-1024}
RESPONSE_LENGTH=${RESPONSE_LENGTH:-3072}   # with the prompt 4096, which is all this model has
TENSOR_PARALLEL=${TENSOR_PARALLEL:-2}      # of vLLM
MAX_TOKENS=${MAX_TOKENS:-16384}            # per GPU and micro-batch
LR=${LR:-1e-6}
STEPS=${STEPS:-105}                        # 15 times through MATH's 7,500 problems
TEST_FREQ=${TEST_FREQ:-5}
SAVE_FREQ=${SAVE_FREQ:-5}
KEEP=${KEEP:-2}                            # checkpoints on disk
VAL_SAMPLES=${VAL_SAMPLES:-5}

begin "$@"
# COMMON is what all recipes hand to verl: examples/settings.sh.
launch "${COMMON[@]}"
