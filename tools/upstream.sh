#!/usr/bin/env bash
# Writes this package's recipe in the form that verl-recipe (github.com/verl-project/verl-recipe) takes.
#
#   bash tools/upstream.sh OUT      OUT: a checkout of verl-recipe; makes OUT/asymgrpo
#
# The algorithm, reward and data are copied; verl_ext stays here, and with it what only it can use. tools/upstream/ has
# what a recipe has instead: README.md, REQUIRED_VERL.txt, register.py and the run script.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/{/^#\( \|$\)/s/^# \{0,1\}//p}' "$0"; exit ;; esac

out=${1:?name a checkout of verl-recipe: bash tools/upstream.sh OUT}
root=$(cd "$(dirname "$0")/.." && pwd)
[ -d "$out" ] || { echo "upstream.sh: there is no folder $out; clone verl-recipe first" >&2; exit 1; }
to=$out/asymgrpo
[ ! -e "$to" ] || { echo "upstream.sh: $to is there already; remove it to write it anew" >&2; exit 1; }

# Without the bridge nobody calls diagnostics, and doctor and report are about the plugin.
parts=(__init__ config groups advantage policy_loss pooled loss_config pass_at_k)
mkdir "$to" "$to/docs"
for part in "${parts[@]}"; do
    cp "$root/recipe/asymgrpo/$part.py" "$to"
done
for room in conf curves data reward; do
    cp -R "$root/recipe/asymgrpo/$room" "$to"
done
find "$to" -name __pycache__ -prune -exec rm -r {} +
cp "$root/docs/reward.md" "$to/docs"

# Names of what is not there.
# shellcheck disable=SC2016  # backquotes of docstrings
find "$to" -type f \( -name '*.py' -o -name '*.yaml' \) -exec sed -i \
    -e 's/ (verl_ext\.[a-z_]*)//' \
    -e 's/"verl-asymgrpo\[math\]"/math-verify/' \
    -e 's/"verl-asymgrpo\[cpu\]"/reasoning-gym pyarrow/' \
    -e 's/``verl-asymgrpo\[cpu\]``/``pip install reasoning-gym pyarrow``/' \
    -e 's/the table of docs\/[a-z]*\.md/a Markdown table/' \
    -e 's/ (docs\/results\.md)//' \
    -e 's/outputs\/quickstart\/small\/asymgrpo-seed1\//RUN\//' {} +

cp "$root"/tools/upstream/{README.md,REQUIRED_VERL.txt,register.py,run_qwen3_4b.sh} "$to"
echo "$to"
