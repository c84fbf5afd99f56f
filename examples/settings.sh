# What all recipes hand to verl, with the knobs on top of each script filled in: `begin` of common.sh sources it. What only
# one model needs stands in its script, after COMMON; the command line's overrides come last.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # set and used by the scripts

ALGORITHM=(
    +asymgrpo="$METHOD"
    algorithm.use_kl_in_reward=False
)
DATASET=(
    data.train_files="$(hydra "$DATA/$TRAIN_SET.parquet")"
    data.val_files="$(hydra "$DATA/$VAL_SET.parquet")" # the paper chooses its checkpoint on MATH-500; other sets: examples/eval.sh
    data.train_batch_size="$TRAIN_BATCH"
    data.max_prompt_length="$PROMPT_LENGTH"
    data.max_response_length="$RESPONSE_LENGTH"
    data.filter_overlong_prompts=True
    data.truncation=error
    data.seed="$SEED"
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
    "${MICRO_BATCHES[@]}" # of so many tokens, or where they are padded of so many rows: common.sh
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
GREEDY=( # validation as in verl's examples on GSM8K: for scripts that put it after COMMON
    actor_rollout_ref.rollout.val_kwargs.do_sample=False
    actor_rollout_ref.rollout.val_kwargs.temperature=0
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
COMMON=("${ALGORITHM[@]}" "${DATASET[@]}" "${ACTOR[@]}" "${ROLLOUT[@]}" "${TRAINER[@]}")
