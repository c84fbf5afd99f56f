#!/usr/bin/env bash
# The estimator, the loss, the Hydra group and the metrics in other versions of verl, each from a wheel of this package
# in an environment of its own (.venv-matrix/VERSION, 2 GB each, made once). Minutes a version.
#
#   bash tests/matrix.sh                     all of the versions below
#   bash tests/matrix.sh 0.8.0 0.7.1         these
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/quickstart/env.sh

VERSIONS=("$@")
[ $# -gt 0 ] || VERSIONS=(0.9.1 0.9.0 0.8.0 0.7.1 0.6.1)
TESTS=(
    tests/recipe/test_{advantage,compiled_loss,config,curves,devices,diagnostics,groups,policy_loss}.py
    tests/recipe/entropy_control tests/verl_ext tests/hydra_plugins
)

failed=()
for version in "${VERSIONS[@]}"; do
    venv=.venv-matrix/$version
    if [ ! -e "$venv/complete" ]; then
        echo "== verl $version: installing into $venv"
        "${PYTHON:-python3}" -m venv "$venv"
        # numpy below 2, as verl asks for up to 0.8, and what of its time works with that; and what verl does not name
        # among its requirements.
        constraints=("datasets<5" "pyarrow<22" "numpy<2")
        case $version in 0.6.*) constraints+=("transformers<5") ;; 0.9.*) constraints=() ;; esac
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 "verl==$version" \
            "${constraints[@]}" cachetools fastapi uvicorn TransferQueue pytest pytest-xdist hypothesis
        touch "$venv/complete"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
    # Beside the tests there is no source, so they import what is installed.
    rm -rf "$venv/checkout"
    mkdir "$venv/checkout"
    cp -r tests docs pyproject.toml "$venv/checkout"
    mkdir -p "$venv/checkout/recipe/asymgrpo" && cp -r recipe/asymgrpo/conf "$venv/checkout/recipe/asymgrpo/conf"
    echo "== verl $version"
    (
        cd "$venv/checkout"
        # From 0.9 on verl finds the plugin itself.
        case $version in 0.9.*) ;; *) export VERL_USE_EXTERNAL_MODULES=verl_ext.plugin ;; esac
        # What takes longest to compile is about torch, which is the same in all.
        ../bin/python -m pytest -q -n 2 --dist worksteal -p no:cacheprovider -m "not slow" \
            -k "not any_order_in_one_process" "${TESTS[@]}"
    ) || failed+=("$version")
done
[ ${#failed[@]} -eq 0 ] || { echo "matrix.sh: failed with verl ${failed[*]}" >&2; exit 1; }
echo "matrix.sh: passed with verl ${VERSIONS[*]}"
