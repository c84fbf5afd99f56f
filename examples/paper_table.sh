#!/usr/bin/env bash
# The rows of the paper's table and its ablations (arXiv 2604.04894), one training after the other, each evaluated.
#
#   bash examples/paper_table.sh                                 the table, on 4 GPUs (run_qwen3_4b.sh)
#   RECIPE=run_qwen2_5_math_1_5b bash examples/paper_table.sh    with the paper's second model
#   ROWS="grpo paper" bash examples/paper_table.sh               these rows; ROWS=ablations, ROWS=all
#   DRY_RUN=1 bash examples/paper_table.sh                       checks every row, starts nothing
#   bash examples/paper_table.sh OVERRIDE...                     Hydra overrides for every row
#
# A queue: what has finished is not repeated, and after an interruption the same command goes on where it was. A row that
# fails is named at the end, and does not stop the others.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/common.sh

RECIPE=${RECIPE:-run_qwen3_4b}
ROWS=${ROWS:-table}
[ -f "examples/$RECIPE.sh" ] || die "RECIPE=$RECIPE: there is no examples/$RECIPE.sh"

TABLE="reinforce grpo grpo_entropy_bonus grpo_clip_higher dr_grpo paper clip_higher"
ABLATIONS="pos_only neg_only ent_decrease ent_increase"
for beta in 0.25 0.5 0.75 1; do # each exponent alone, the other as in the paper
    ABLATIONS+=" beta_pos_$beta beta_neg_$beta"
done

# What a row is: METHOD, then overrides.
row() {
    case $1 in
        grpo_entropy_bonus) echo entropy_bonus algorithm.asym_grpo.preset=grpo ;;
        grpo_clip_higher) echo clip_higher algorithm.asym_grpo.preset=grpo ;;
        dr_grpo) echo dr_grpo actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm ;;
        beta_pos_*) echo paper algorithm.asym_grpo.beta_pos="${1#beta_pos_}" ;;
        beta_neg_*) echo paper algorithm.asym_grpo.beta_neg="${1#beta_neg_}" ;;
        *) echo "$1" ;;
    esac
}

case $ROWS in
    table) ROWS=$TABLE ;;
    ablations) ROWS=$ABLATIONS ;;
    all) ROWS="$TABLE $ABLATIONS" ;;
esac
for name in $ROWS; do
    case " $TABLE $ABLATIONS " in *" $name "*) ;; *) die "ROWS: $name is unknown; choose of: $TABLE $ABLATIONS" ;; esac
done

check_knobs
choose_python
CALLER=$PWD # paths have been made those of here, and each row's script makes them so again
export SCALE DEVICE OUT PYTHON SEED CALLER
failed=() runs=()
for name in $ROWS; do
    read -r -a words <<< "$(row "$name")"
    # The row's own folder, and another one where overrides are given: other settings are another table.
    folder=$name
    [ $# -eq 0 ] || folder=$name-$(printf '%s\n' "$@" | cksum | cut -d' ' -f1)
    run=$OUT/$RECIPE/$folder-seed$SEED
    runs+=("$run")
    printf '\n== %s\n' "$name"
    if ! METHOD=${words[0]} RUN_NAME=$folder bash "examples/$RECIPE.sh" "${words[@]:1}" "$@"; then
        failed+=("$name")
    elif [ -z "$DRY_RUN" ]; then
        bash examples/eval.sh "$run" || failed+=("$name (evaluation)")
    fi
done

if [ -z "$DRY_RUN" ]; then
    echo
    "$PYTHON" examples/evaluate.py --table "${runs[@]}" | tee "$OUT/$RECIPE/table.md"
fi
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}; the same command tries them again"
