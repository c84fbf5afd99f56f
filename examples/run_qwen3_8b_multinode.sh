#!/usr/bin/env bash
# Qwen3-8B (without thinking) on MATH with AsymGRPO: 2 nodes of 8 GPUs of 80 GB. Ours, not the paper's.
#
# On a Ray cluster that is running (ray start, with this package installed on every node), from any of its nodes:
#   RAY_ADDRESS=auto NNODES=2 bash examples/run_qwen3_8b_multinode.sh
# With Slurm:
#   sbatch --nodes=2 examples/slurm.sh examples/run_qwen3_8b_multinode.sh
#
# OUT and DATA must be on a file system that all nodes share.
#
#   bash examples/run_qwen3_8b_multinode.sh                           AsymGRPO (0.9 / 0.4)
#   METHOD=grpo bash examples/run_qwen3_8b_multinode.sh               any +asymgrpo=METHOD (docs/methods.md)
#   DRY_RUN=1 bash examples/run_qwen3_8b_multinode.sh                 checks everything, starts nothing
#   SCALE=tiny bash examples/run_qwen3_8b_multinode.sh                this script on a CPU, in minutes
#   bash examples/run_qwen3_8b_multinode.sh actor_rollout_ref.actor.optim.lr=5e-7      any Hydra override of verl
#
# Interrupted, the same command resumes. The settings are also knobs: LR=5e-7 bash ...
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/common.sh

MODEL=${MODEL:-Qwen/Qwen3-8B}
NNODES=${NNODES:-2}
NGPUS_PER_NODE=${NGPUS_PER_NODE:-8}
TRAIN_BATCH=${TRAIN_BATCH:-1024}           # prompts a step
MINI_BATCH=${MINI_BATCH:-256}              # prompts an update
ROLLOUTS=${ROLLOUTS:-8}                    # responses a prompt
PROMPT_LENGTH=${PROMPT_LENGTH:-1024}
RESPONSE_LENGTH=${RESPONSE_LENGTH:-4096}
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
launch "${COMMON[@]}" +data.apply_chat_template_kwargs.enable_thinking=False
