# Sourced by the recipes of this folder: what they have in common besides verl's settings, which are in settings.sh.
#
#   begin ARGUMENT...    chooses environment, method, run folder and data, checks them, and fills in COMMON (settings.sh)
#   launch OVERRIDE...   trains, watched; the command line's own overrides come last
#   choose_python        the first part of `begin`: PYTHON and OUT
#
# METHOD=paper                any +asymgrpo=METHOD
# DRY_RUN=1                   composes and checks the whole configuration, prints the plan, starts nothing
# SCALE=tiny                  the same script in minutes: a tiny model and a dozen problems; on a GPU where PYTHON has CUDA
#                             and verl, else on a CPU. DEVICE=cuda or DEVICE=cpu chooses
# NNODES, NGPUS_PER_NODE      the cluster; more than one node needs RAY_ADDRESS (docs/recipes.md)
# OUT, DATA, SEED, RUN_NAME   where runs and prompts are kept; the seed of everything; the run's folder, else the METHOD
# TRAIN_SET, VAL_SET          the sets that it trains and is validated on, of `python -m recipe.asymgrpo.data prepare`
# PYTHON                      the python of your verl environment
# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts
source examples/quickstart/env.sh

SCRIPT=$(basename "$0" .sh)
SCALE=${SCALE:-full}
METHOD=${METHOD:-paper}
SEED=${SEED:-1}
TRAIN_SET=${TRAIN_SET:-train} VAL_SET=${VAL_SET:-math500} # the paper's: MATH and MATH-500
DRY_RUN=${DRY_RUN:-}
case $DRY_RUN in 0 | no | false) DRY_RUN= ;; esac

case $SCALE in
    full) ;;
    tiny)
        # What the scripts' own defaults give way to.
        NNODES=${NNODES:-1} NGPUS_PER_NODE=${NGPUS_PER_NODE:-1} TENSOR_PARALLEL=1
        TRAIN_BATCH=${TRAIN_BATCH:-6} MINI_BATCH=${MINI_BATCH:-6} ROLLOUTS=${ROLLOUTS:-4}
        PROMPT_LENGTH=${PROMPT_LENGTH:-256} RESPONSE_LENGTH=${RESPONSE_LENGTH:-32} MAX_TOKENS=${MAX_TOKENS:-4096}
        STEPS=${STEPS:-2} TEST_FREQ=${TEST_FREQ:-2} SAVE_FREQ=${SAVE_FREQ:-1} VAL_SAMPLES=${VAL_SAMPLES:-2} LR=${LR:-1e-4} ;;
    *) die "SCALE=$SCALE is unknown; choose full or tiny" ;;
esac

case $SCALE:${DEVICE:=} in
    full: | full:cuda) DEVICE=cuda ;;
    tiny:cuda | tiny:cpu) ;;
    tiny:) # where nvidia-smi is missing, no time is lost on importing torch
        DEVICE=cpu
        ! command -v nvidia-smi > /dev/null || ! "${PYTHON:-python3}" -c 'import importlib.util, torch
assert importlib.util.find_spec("verl") and torch.cuda.is_available()' 2> /dev/null || DEVICE=cuda ;;
    full:cpu) die "DEVICE=cpu is for SCALE=tiny; a training on a CPU: bash examples/quickstart.sh" ;;
    *) die "DEVICE=$DEVICE is unknown; choose cuda or cpu" ;;
esac

has_module() { "$PYTHON" -c "import $1" 2> /dev/null; }
is_installed() { "$PYTHON" -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$1'))" 2> /dev/null; }

begin() {
    check_knobs
    choose_method "$@"
    choose_python
    [ "$NNODES" -eq 1 ] || [ -n "${RAY_ADDRESS:-}${DRY_RUN}" ] \
        || die "NNODES=$NNODES needs a Ray cluster that is running: set RAY_ADDRESS, or use examples/slurm.sh (docs/recipes.md)"
    [ -z "${SLURM_NNODES:-}" ] || [ "$NNODES" -le "$SLURM_NNODES" ] \
        || die "NNODES=$NNODES, but the Slurm job has $SLURM_NNODES nodes"
    check_paths OUT ${DATA:+DATA} ${MODEL:+MODEL}
    [ "${KEEP:-2}" != 1 ] \
        || die "KEEP=1: verl removes the older checkpoint before the newer one counts, and a crash in between loses both; KEEP=2"
    NAME=${RUN_NAME:-$NAME}
    RUN=$OUT/$SCRIPT/$NAME-seed$SEED
    DEFAULT_DATA=outputs/data
    [ "$SCALE" = full ] || DEFAULT_DATA=$OUT/data
    [ -n "${DATA:-}" ] && [ "$(realpath -m -- "$DATA")" != "$(realpath -m -- "$DEFAULT_DATA")" ] || DATA=$DEFAULT_DATA
    RANKS=$((NNODES * NGPUS_PER_NODE)) # a checkpoint of verl's has a file for each, and no other number can read it
    # Not among them: steps, how often it validates and saves, and what only decides how fast it is.
    compare_settings "$RUN" METHOD SCALE DEVICE MODEL DATA TRAIN_SET VAL_SET SEED LR TRAIN_BATCH MINI_BATCH ROLLOUTS \
        PROMPT_LENGTH RESPONSE_LENGTH VAL_SAMPLES RANKS LORA_RANK LORA_ALPHA
    is_installed latex2sympy2_extended \
        || die "no math-verify in $PYTHON, without which no wrong answer is told: $PYTHON -m pip install math-verify"
    [ -z "${RAY_ADDRESS:-}" ] || [ -n "$DRY_RUN" ] || check_cluster
    prepare_data
    choose_attention
    [ -n "$DRY_RUN" ] || choose_logger "$RUN"
    : "${LOGGER:=[\"console\",\"file\"]}"
    export HYDRA_FULL_ERROR=1
    source examples/settings.sh
}

choose_python() {
    if [ "$DEVICE" = cpu ]; then
        local venv=${VENV:-.venv}
        ensure_cpu_env "$venv"
        PYTHON=$venv/bin/python
        OUT=${OUT:-outputs/tiny}
        return
    fi
    PYTHON=${PYTHON:-python3}
    [ "$SCALE" = tiny ] && OUT=${OUT:-outputs/tiny-cuda} || OUT=${OUT:-outputs/recipes}
    [ -n "$DRY_RUN" ] || check_gpus
    is_installed verl || die "no verl in $PYTHON; name the python of your verl environment: PYTHON=/path/to/python"
}

check_gpus() {
    [ -z "${RAY_ADDRESS:-}" ] || return 0 # the GPUs are the cluster's
    local found
    found=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())' 2> /dev/null) || found=0
    if [ "$found" -eq 0 ]; then
        echo "$SCRIPT.sh: no GPU that torch in $PYTHON can use; on a CPU: bash examples/quickstart.sh, or SCALE=tiny bash $0" >&2
        exit 2
    fi
    [ "$found" -ge "${NGPUS_PER_NODE:-1}" ] || die "NGPUS_PER_NODE=$NGPUS_PER_NODE, but this machine has $found GPUs"
}

check_cluster() {
    # verl would wait without end for a node that does not come.
    "$PYTHON" - "$NNODES" "$NGPUS_PER_NODE" "${RAY_WAIT:-60}" << 'END' || die "the Ray cluster at RAY_ADDRESS=$RAY_ADDRESS cannot be used"
import logging, sys, time
import ray

nodes, gpus, patience = (int(argument) for argument in sys.argv[1:])
try:
    ray.init(logging_level=logging.ERROR, log_to_driver=False)  # the address is in RAY_ADDRESS
except (ConnectionError, OSError, RuntimeError, ValueError) as error:
    token = "if it asks for a token: RAY_AUTH_MODE=token, and the head node's ~/.ray/auth_token"
    sys.exit(f"no Ray answers: {str(error).splitlines()[0]} ({token})")
until = time.monotonic() + patience
while True:
    sizes = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
    if sum(size >= gpus for size in sizes) >= nodes:
        break
    if time.monotonic() > until:
        sys.exit(f"NNODES={nodes} of NGPUS_PER_NODE={gpus} are wanted; after {patience} s the nodes have {sizes} GPUs")
    time.sleep(1)

from recipe.asymgrpo.doctor import OK, probe_nodes

if failed := [finding.text for finding in probe_nodes() if finding.status != OK]:
    sys.exit("the plugin: " + "; ".join(failed))
END
}

EVALUATION=(math500 olympiadbench aime24 aime25 amc23) # the paper's

prepare_data() {
    ABSENT_OK=()
    local sets=(--sets "$TRAIN_SET" "$VAL_SET")
    # The paper's come together: a training set is made without the questions of those that it is evaluated on.
    [[ " ${EVALUATION[*]} " != *" $VAL_SET "* ]] || sets=(--sets "$TRAIN_SET" "${EVALUATION[@]}")
    if [ "$SCALE" = tiny ]; then
        "$PYTHON" -m recipe.asymgrpo.data prepare --out "$DATA" --local "$TRAIN_SET=examples/tiny/train.jsonl" \
            --local "$VAL_SET=examples/tiny/math500.jsonl" > /dev/null
        MODEL=$("$PYTHON" examples/quickstart/base_model.py --model tiny --out "$OUT/base" \
            --data "$DATA/$TRAIN_SET.parquet" "$DATA/$VAL_SET.parquet" | tail -n 1)
    elif [ "$DATA" = "$DEFAULT_DATA" ]; then
        check_paths DATA
        if [ -n "$DRY_RUN" ]; then
            ABSENT_OK=(--absent-ok "$DATA")
        elif [ ! -e "$DATA/$TRAIN_SET.parquet" ] || [ ! -e "$DATA/$VAL_SET.parquet" ]; then # what is there stays
            "$PYTHON" -m recipe.asymgrpo.data prepare --out "$DATA" "${sets[@]}"
        fi
    elif [ -z "$DRY_RUN" ] && [ ! -e "$DATA/$TRAIN_SET.parquet" ]; then
        die "DATA=$DATA has no $TRAIN_SET.parquet; make it: $PYTHON -m recipe.asymgrpo.data prepare --out $DATA ${sets[*]}"
    fi
}

choose_attention() {
    # Packed sequences need the kernels of flash-attn. A plan that is made where no GPU is takes them for granted.
    if [ "$DEVICE" = cuda ] && { has_module flash_attn || { [ -n "$DRY_RUN" ] && ! command -v nvidia-smi > /dev/null; }; }; then
        ATTENTION=flash_attention_2 REMOVE_PADDING=True
        MICRO_BATCHES=(
            actor_rollout_ref.actor.use_dynamic_bsz=True
            actor_rollout_ref.actor.ppo_max_token_len_per_gpu="$MAX_TOKENS"
        )
        return
    fi
    [ "$DEVICE" = cpu ] || echo "$SCRIPT.sh: no flash-attn in $PYTHON, so attention is sdpa on padded batches: slower" >&2
    # verl would count the tokens of a micro-batch without the padding, which is then up to several times as much.
    local rows=$((MAX_TOKENS / (PROMPT_LENGTH + RESPONSE_LENGTH))) all=$((MINI_BATCH * ROLLOUTS / RANKS))
    while [ "$rows" -gt 1 ] && [ $((all % rows)) -ne 0 ]; do rows=$((rows - 1)); done
    [ "$rows" -ge 1 ] || rows=1
    ATTENTION=sdpa REMOVE_PADDING=False
    MICRO_BATCHES=(
        actor_rollout_ref.actor.use_dynamic_bsz=False
        actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu="$rows"
        actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu="$rows"
        actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu="$rows" # for actor.use_kl_loss=True
    )
}

needed() { # what the evaluation has to be told, because it is not its default
    local name names=()
    [ "$SCALE" = full ] || names+=(SCALE DEVICE)
    [ "$DEVICE" = cpu ] || [ "$PYTHON" = python3 ] || names+=(PYTHON)
    [ "$DATA" = outputs/data ] || names+=(DATA)
    for name in "${names[@]}" ${VENV:+VENV} ${RAY_ADDRESS:+RAY_ADDRESS}; do printf '%s=%q ' "$name" "${!name}"; done
}

launch() {
    local overrides=("$@") watch=(--max-probs-diff 2) # bfloat16 differs by itself
    if [ "$DEVICE" = cpu ]; then
        choose_cpu "$NGPUS_PER_NODE"
        watch=()
        overrides+=("${CPU[@]}")
    elif [ -z "${RAY_ADDRESS:-}" ]; then
        overrides+=(+ray_kwargs.ray_init.address=local) # never a stranger's, or one that has ended
    fi
    overrides+=("${OVERRIDES[@]}")
    if [ -n "$DRY_RUN" ]; then
        exec "$PYTHON" -m verl_ext.dry_run "${ABSENT_OK[@]}" -- "${overrides[@]}"
    fi
    if has_finished "$RUN" "$STEPS"; then
        echo "$RUN has finished; remove the folder to train it again, or choose another SEED, or more STEPS to go on"
        return
    fi
    keep_settings "$RUN"
    echo "training: $RUN (log: $RUN/train.log)"
    "$PYTHON" -m verl_ext.watch --end-with-parent --run "$RUN" --steps "$STEPS" --stall "${STALL:-3600}" "${watch[@]}" -- \
        "$PYTHON" -m verl.trainer.main_ppo "${overrides[@]}" || exit $?
    echo "finished: $RUN"
    printf 'next:  %sbash examples/eval.sh %q\n' "$(needed)" "$RUN"
}
