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

ALGORITHM=(
    +asymgrpo="$METHOD"
    algorithm.use_kl_in_reward=False
)
DATASET=(
    data.train_files="$(hydra "$DATA/train.parquet")"
    data.val_files="$(hydra "$DATA/math500.parquet")" # the paper chooses its checkpoint here; the other sets: examples/eval.sh
    data.train_batch_size="$TRAIN_BATCH"
    data.max_prompt_length="$PROMPT_LENGTH"
    data.max_response_length="$RESPONSE_LENGTH"
    data.filter_overlong_prompts=True
    data.truncation=error
    data.seed="$SEED"
    +data.apply_chat_template_kwargs.enable_thinking=False
    reward.custom_reward_function.path=pkg://recipe.asymgrpo.reward
)
ACTOR=(
    actor_rollout_ref.model.path="$(hydra "$MODEL")"
    actor_rollout_ref.model.use_remove_padding="$REMOVE_PADDING"
    +actor_rollout_ref.model.override_config.attn_implementation="$ATTENTION"
    actor_rollout_ref.model.enable_gradient_checkpointing=True
    actor_rollout_ref.actor.strategy=fsdp2
    actor_rollout_ref.actor.optim.lr="$LR"
    actor_rollout_ref.actor.ppo_mini_batch_size="$MINI_BATCH"
    actor_rollout_ref.actor.use_dynamic_bsz=True
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu="$MAX_TOKENS"
    actor_rollout_ref.actor.use_kl_loss=False
    actor_rollout_ref.actor.data_loader_seed="$SEED"
)
ROLLOUT=(
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.n="$ROLLOUTS"
    actor_rollout_ref.rollout.tensor_model_parallel_size="$TENSOR_PARALLEL"
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6
    actor_rollout_ref.rollout.max_model_len=$((PROMPT_LENGTH + RESPONSE_LENGTH))
    actor_rollout_ref.rollout.seed="$SEED"
    actor_rollout_ref.rollout.val_kwargs.do_sample=True
    actor_rollout_ref.rollout.val_kwargs.temperature=0.4
    actor_rollout_ref.rollout.val_kwargs.top_p=1.0
    actor_rollout_ref.rollout.val_kwargs.n="$VAL_SAMPLES"
)
TRAINER=(
    trainer.nnodes="$NNODES"
    trainer.n_gpus_per_node="$NGPUS_PER_NODE"
    trainer.total_training_steps="$STEPS"
    trainer.total_epochs=1000 # STEPS ends the run
    trainer.test_freq="$TEST_FREQ"
    trainer.save_freq="$SAVE_FREQ"
    trainer.max_actor_ckpt_to_keep="$KEEP"
    trainer.default_local_dir="$(hydra "$RUN/checkpoints")"
    trainer.rollout_data_dir="$(hydra "$RUN/rollouts")"
    trainer.validation_data_dir="$(hydra "$RUN/validation")"
    trainer.logger="$LOGGER"
    trainer.project_name=asymgrpo
    trainer.experiment_name="$SCRIPT-$NAME-seed$SEED"
    hydra.run.dir="$(hydra "$RUN/hydra")"
)

launch "${ALGORITHM[@]}" "${DATASET[@]}" "${ACTOR[@]}" "${ROLLOUT[@]}" "${TRAINER[@]}"
