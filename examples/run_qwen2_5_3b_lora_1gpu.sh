#!/usr/bin/env bash
# Qwen2.5-3B-Instruct on GSM8K with AsymGRPO and LoRA: one GPU of 48 GB. Rank, alpha, learning rate, batch and lengths of
# verl's LoRA example (examples/tuning/lora/run_qwen3_8b_fsdp.sh), with groups of 8 and no KL.
#
#   bash examples/run_qwen2_5_3b_lora_1gpu.sh               AsymGRPO (0.9 / 0.4)
#   METHOD=grpo bash examples/run_qwen2_5_3b_lora_1gpu.sh   any +asymgrpo=METHOD (docs/methods.md)
#   DRY_RUN=1 bash examples/run_qwen2_5_3b_lora_1gpu.sh     checks everything, starts nothing
#   SCALE=tiny bash examples/run_qwen2_5_3b_lora_1gpu.sh    this script in minutes, on a CPU where there is no GPU
#   bash examples/run_qwen2_5_3b_lora_1gpu.sh actor_rollout_ref.actor.optim.lr=5e-6   any Hydra override of verl
#
# Interrupted, the same command resumes. The settings are also knobs: LORA_RANK=16 bash ...
set -euo pipefail
cd "$(dirname "$0")/.."
TRAIN_SET=${TRAIN_SET:-gsm8k_train}
VAL_SET=${VAL_SET:-gsm8k_test}
source examples/common.sh

MODEL=${MODEL:-Qwen/Qwen2.5-3B-Instruct}
LORA_RANK=${LORA_RANK:-64}
LORA_ALPHA=${LORA_ALPHA:-32}
NNODES=${NNODES:-1}
NGPUS_PER_NODE=${NGPUS_PER_NODE:-1}
TRAIN_BATCH=${TRAIN_BATCH:-64}             # prompts a step
MINI_BATCH=${MINI_BATCH:-32}               # prompts an update
ROLLOUTS=${ROLLOUTS:-8}                    # responses a prompt
PROMPT_LENGTH=${PROMPT_LENGTH:-512}
RESPONSE_LENGTH=${RESPONSE_LENGTH:-1024}
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}      # of vLLM
MAX_TOKENS=${MAX_TOKENS:-6144}             # per GPU and micro-batch
LR=${LR:-3e-6}
STEPS=${STEPS:-580}                        # 5 times through GSM8K's 7,473 problems
TEST_FREQ=${TEST_FREQ:-20}
SAVE_FREQ=${SAVE_FREQ:-20}
KEEP=${KEEP:-2}                            # checkpoints on disk
VAL_SAMPLES=${VAL_SAMPLES:-1}

begin "$@"
LORA=(
    actor_rollout_ref.model.lora_rank="$LORA_RANK"
    actor_rollout_ref.model.lora_alpha="$LORA_ALPHA"
    actor_rollout_ref.rollout.load_format=safetensors # vLLM keeps the base model; only the adapter is synced
    actor_rollout_ref.rollout.layered_summon=True
)
# COMMON is what all recipes hand to verl: examples/settings.sh.
launch "${COMMON[@]}" "${GREEDY[@]}" "${LORA[@]}"
