#!/usr/bin/env bash
#SBATCH --job-name=asymgrpo
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
# A recipe on several nodes of a Slurm cluster: starts Ray on all of them, runs the recipe on the first.
#
#   sbatch --nodes=2 examples/slurm.sh examples/run_qwen3_8b_multinode.sh [OVERRIDE...]
#   METHOD=grpo sbatch --nodes=4 examples/slurm.sh examples/run_qwen3_8b_multinode.sh
#
# From the root of this repository, which all nodes must see, with verl's environment active: PYTHON, or PATH.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/{/^#\( \|$\)/s/^# \{0,1\}//p}' "$0"; exit ;; esac

recipe=${1:?name a recipe, such as examples/run_qwen3_8b_multinode.sh}
shift
[ -f "$recipe" ] || { echo "slurm.sh: there is no $recipe here; submit from the root of the repository" >&2; exit 1; }
: "${SLURM_JOB_NODELIST:?submit this file with sbatch}"

export NNODES=$SLURM_NNODES
export NGPUS_PER_NODE=${NGPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
bin=$(dirname "$(command -v "${PYTHON:-python3}")")
PORT=${PORT:-6379}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
export RAY_ADDRESS=$address:$PORT

# What the nodes of this job know each other by; Ray before 2.52 has no use for it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d " \n")
export RAY_AUTH_TOKEN

# Ray stays in the foreground of each step, so that it ends with the job.
srun --nodes=1 --ntasks=1 -w "$head" --overlap \
    "$bin/ray" start --head --node-ip-address="$address" --port="$PORT" --num-gpus="$NGPUS_PER_NODE" --block &
sleep 15
if [ "$NNODES" -gt 1 ]; then
    others=$(IFS=,; echo "${nodes[*]:1}")
    srun --nodes=$((NNODES - 1)) --ntasks=$((NNODES - 1)) -w "$others" --overlap \
        "$bin/ray" start --address="$RAY_ADDRESS" --num-gpus="$NGPUS_PER_NODE" --block &
fi
RAY_WAIT=600 bash "$recipe" "$@"
