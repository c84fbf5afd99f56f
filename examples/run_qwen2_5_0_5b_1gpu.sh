#!/usr/bin/env bash
# Qwen2.5-0.5B-Instruct on GSM8K with AsymGRPO: one GPU of 24 GB. Data, model, batch and lengths of verl's quickstart, with
# groups of 8 responses in place of its critic.
#
#   bash examples/run_qwen2_5_0_5b_1gpu.sh                  AsymGRPO (0.9 / 0.4)
#   METHOD=grpo bash examples/run_qwen2_5_0_5b_1gpu.sh      any +asymgrpo=METHOD (docs/methods.md)
#   DRY_RUN=1 bash examples/run_qwen2_5_0_5b_1gpu.sh        checks everything, starts nothing
#   SCALE=tiny bash examples/run_qwen2_5_0_5b_1gpu.sh       this script in minutes, on a CPU where there is no GPU
#   bash examples/run_qwen2_5_0_5b_1gpu.sh actor_rollout_ref.actor.optim.lr=5e-7      any Hydra override of verl
#
# Interrupted, the same command resumes. The settings are also knobs: LR=5e-7 bash ...
set -euo pipefail
cd "$(dirname "$0")/.."
TRAIN_SET=${TRAIN_SET:-gsm8k_train}
VAL_SET=${VAL_SET:-gsm8k_test}
source examples/common.sh

MODEL=${MODEL:-Qwen/Qwen2.5-0.5B-Instruct}
NNODES=${NNODES:-1}
NGPUS_PER_NODE=${NGPUS_PER_NODE:-1}
TRAIN_BATCH=${TRAIN_BATCH:-256}            # prompts a step
MINI_BATCH=${MINI_BATCH:-64}               # prompts an update
ROLLOUTS=${ROLLOUTS:-8}                    # responses a prompt
PROMPT_LENGTH=${PROMPT_LENGTH:-512}
RESPONSE_LENGTH=${RESPONSE_LENGTH:-512}
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}      # of vLLM
MAX_TOKENS=${MAX_TOKENS:-4096}             # per GPU and micro-batch
LR=${LR:-1e-6}
STEPS=${STEPS:-435}                        # 15 times through GSM8K's 7,473 problems
TEST_FREQ=${TEST_FREQ:-10}
SAVE_FREQ=${SAVE_FREQ:-10}
KEEP=${KEEP:-2}                            # checkpoints on disk
VAL_SAMPLES=${VAL_SAMPLES:-1}

begin "$@"
# COMMON is what all recipes hand to verl: examples/settings.sh.
launch "${COMMON[@]}" "${GREEDY[@]}" actor_rollout_ref.rollout.gpu_memory_utilization=0.4
