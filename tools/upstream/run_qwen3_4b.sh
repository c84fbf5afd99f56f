#!/usr/bin/env bash
# Qwen3-4B (without thinking) on MATH with AsymGRPO: 4 GPUs of 80 GB, the paper's main setting (arXiv 2604.04894).
#
#   bash recipe/asymgrpo/run_qwen3_4b.sh                       AsymGRPO (0.9 / 0.4)
#   METHOD=grpo bash recipe/asymgrpo/run_qwen3_4b.sh           any file of recipe/asymgrpo/conf/asymgrpo
#   bash recipe/asymgrpo/run_qwen3_4b.sh --cfg job             the whole configuration, and no training
#   bash recipe/asymgrpo/run_qwen3_4b.sh trainer.total_training_steps=10       any Hydra override of verl
set -euo pipefail
cd "$(dirname "$0")/../.." # verl's root, where `recipe` is a package

METHOD=${METHOD:-paper}
MODEL_PATH=${MODEL_PATH:-Qwen/Qwen3-4B}
DATA=${DATA:-$PWD/data/asymgrpo} # python3 -m recipe.asymgrpo.data prepare --out data/asymgrpo
CKPTS_DIR=${CKPTS_DIR:-$PWD/checkpoints/asymgrpo/qwen3-4b-$METHOD}
NNODES=${NNODES:-1}
NGPUS_PER_NODE=${NGPUS_PER_NODE:-4}
SEED=${SEED:-1}

# Every process of the training registers the estimator and the loss. A Ray cluster that is running gets both variables
# from its runtime environment; this folder must be there on each of its nodes.
export VERL_USE_EXTERNAL_MODULES=recipe.asymgrpo.register
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
REGISTER=(
    +ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES="$VERL_USE_EXTERNAL_MODULES"
    +ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH="'$PYTHONPATH'"
    hydra.searchpath='[pkg://recipe.asymgrpo.conf]'
)

python3 -m verl.trainer.main_ppo \
    "${REGISTER[@]}" \
    +asymgrpo="$METHOD" \
    algorithm.use_kl_in_reward=False \
    data.train_files="'$DATA/train.parquet'" \
    data.val_files="'$DATA/math500.parquet'" \
    data.train_batch_size=128 \
    data.max_prompt_length=1024 \
    data.max_response_length=4096 \
    data.filter_overlong_prompts=True \
    data.truncation=error \
    data.seed="$SEED" \
    +data.apply_chat_template_kwargs.enable_thinking=False \
    reward.custom_reward_function.path=pkg://recipe.asymgrpo.reward \
    actor_rollout_ref.model.path="'$MODEL_PATH'" \
    actor_rollout_ref.model.use_remove_padding=True \
    +actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2 \
    actor_rollout_ref.model.enable_gradient_checkpointing=True \
    actor_rollout_ref.actor.strategy=fsdp2 \
    actor_rollout_ref.actor.optim.lr=2e-6 \
    actor_rollout_ref.actor.ppo_mini_batch_size=64 \
    actor_rollout_ref.actor.use_dynamic_bsz=True \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384 \
    actor_rollout_ref.actor.use_kl_loss=False \
    actor_rollout_ref.actor.data_loader_seed="$SEED" \
    actor_rollout_ref.rollout.name=vllm \
    actor_rollout_ref.rollout.n=8 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6 \
    actor_rollout_ref.rollout.max_model_len=5120 \
    actor_rollout_ref.rollout.seed="$SEED" \
    actor_rollout_ref.rollout.val_kwargs.do_sample=True \
    actor_rollout_ref.rollout.val_kwargs.temperature=0.4 \
    actor_rollout_ref.rollout.val_kwargs.top_p=1.0 \
    actor_rollout_ref.rollout.val_kwargs.n=5 \
    trainer.nnodes="$NNODES" \
    trainer.n_gpus_per_node="$NGPUS_PER_NODE" \
    trainer.total_training_steps=290 \
    trainer.total_epochs=1000 \
    trainer.test_freq=10 \
    trainer.save_freq=10 \
    trainer.max_actor_ckpt_to_keep=2 \
    trainer.default_local_dir="'$CKPTS_DIR'" \
    trainer.validation_data_dir="'$CKPTS_DIR/validation'" \
    trainer.logger='["console","wandb"]' \
    trainer.project_name=asymgrpo \
    trainer.experiment_name="qwen3-4b-$METHOD-seed$SEED" \
    "$@"
