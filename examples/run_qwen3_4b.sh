#!/usr/bin/env bash
# Qwen3-4B (without thinking) on MATH with AsymGRPO: 4 GPUs of 80 GB. The paper's main setting (arXiv 2604.04894): batch
# 128, mini-batch 64, responses up to 4096 tokens, 8 rollouts, lr 2e-6. Its number of steps is not stated.
#
#   bash examples/run_qwen3_4b.sh                           AsymGRPO (0.9 / 0.4)
#   METHOD=grpo bash examples/run_qwen3_4b.sh               any +asymgrpo=METHOD (docs/methods.md)
#   DRY_RUN=1 bash examples/run_qwen3_4b.sh                 checks everything, starts nothing
#   SCALE=tiny bash examples/run_qwen3_4b.sh                this script on a CPU, in minutes
#   bash examples/run_qwen3_4b.sh actor_rollout_ref.actor.optim.lr=5e-7      any Hydra override of verl
#
# Interrupted, the same command resumes. The settings are also knobs: LR=5e-7 bash ...
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/common.sh

MODEL=${MODEL:-Qwen/Qwen3-4B}
NNODES=${NNODES:-1}
NGPUS_PER_NODE=${NGPUS_PER_NODE:-4}
TRAIN_BATCH=${TRAIN_BATCH:-128}            # prompts a step
MINI_BATCH=${MINI_BATCH:-64}               # prompts an update
ROLLOUTS=${ROLLOUTS:-8}                    # responses a prompt
PROMPT_LENGTH=${PROMPT_LENGTH:-1024}
RESPONSE_LENGTH=${RESPONSE_LENGTH:-4096}   # the paper's
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}      # of vLLM
MAX_TOKENS=${MAX_TOKENS:-16384}            # per GPU and micro-batch
LR=${LR:-2e-6}
STEPS=${STEPS:-290}                        # 5 times through MATH's 7,500 problems; our choice
TEST_FREQ=${TEST_FREQ:-10}
SAVE_FREQ=${SAVE_FREQ:-10}
KEEP=${KEEP:-2}                            # checkpoints on disk
VAL_SAMPLES=${VAL_SAMPLES:-5}

begin "$@"
# COMMON is what all recipes hand to verl: examples/settings.sh.
launch "${COMMON[@]}" +data.apply_chat_template_kwargs.enable_thinking=False
