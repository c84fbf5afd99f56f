"""examples/quickstart/env.sh: paths, variables and the settings that a run's folder keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from verl_ext.hydra_text import quoted

ROOT = Path(__file__).resolve().parents[2]
PRINTABLE = st.characters(exclude_categories=("C",))


def bash(code: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess:
    """Runs code below env.sh, as a script that was called in `cwd` does."""
    script = f'set -euo pipefail; cd "{ROOT}"; source examples/quickstart/env.sh; {code}'
    return subprocess.run(
        ["bash", "-c", script, "script.sh"], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False
    )


def as_hydra_reads(text: str) -> str:
    (override,) = OverridesParser.create().parse_overrides([f"key={text}"])
    return OmegaConf.create({"key": override.value()}).key


@settings(max_examples=300, deadline=None)
@given(st.text(PRINTABLE, min_size=1, max_size=30).filter(lambda text: "${" not in text))
def test_hydra_reads_a_quoted_value_as_it_is(text):
    assert as_hydra_reads(quoted(text)) == text


@settings(max_examples=8, deadline=None)
@given(st.lists(st.text(PRINTABLE, min_size=1, max_size=30), min_size=40, max_size=40))
def test_the_scripts_quote_as_the_package_does(texts):
    texts = [text for text in texts if "${" not in text]
    texts += [
        "run (copy)",
        "it's",
        "back\\slash",
        "end\\",
        "\\'",
        "Ünïcode ✓",
        "a,b=c",
        "~ & ! ^ < > ; # [x] {y}",
        '"q"',
    ]
    done = subprocess.run(
        ["bash", "-c", 'source examples/quickstart/env.sh; for text; do hydra "$text"; echo; done', "x", *texts],
        cwd=ROOT,
        env=os.environ | {"CALLER": str(ROOT), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [quoted(text) for text in texts]


def test_an_interpolation_is_refused():
    with pytest.raises(ValueError, match="another name"):
        quoted("a/${b}")
    assert "use another name" in bash("OUT='a/${b}'; check_paths OUT").stderr


def test_relative_paths_are_the_callers(tmp_path):
    (tmp_path / "my model").mkdir()
    show = 'printf "%s\\n" "$OUT" "$DATA" "$MODEL" "$VENV" "$PYTHON"'
    given_ = {"OUT": "out", "DATA": "../data", "MODEL": "my model", "VENV": "/somewhere", "PYTHON": "bin/python"}
    assert bash(show, tmp_path, **given_).stdout.splitlines() == [
        f"{tmp_path}/out", f"{tmp_path}/../data", f"{tmp_path}/my model", "/somewhere", f"{tmp_path}/bin/python",
    ]  # fmt: skip
    names = given_ | {"MODEL": "Qwen/Qwen3-4B", "PYTHON": "python3.11"}
    assert bash(show, tmp_path, **names).stdout.splitlines()[2::2] == ["Qwen/Qwen3-4B", "python3.11"]


WRONG = {
    "LR": ("abc", "-1", "0", "0.0", "1e", "nan", "1e-6x"),
    "SEED": ("a", "-1", "1.5", "01"),
    "SAVE_FREQ": ("0", "-2", "x"),
    "TEST_FREQ": ("x", "0"),
    "VAL_SAMPLES": ("0",),
    "RESPONSE_LENGTH": ("x", "99999999999999999999"),
    "NGPUS": ("0", "-1"),
    "STALL": ("soon",),
}


def test_wrong_values_are_named_with_what_is_allowed():
    cases = [(name, value) for name, values in WRONG.items() for value in values]
    code = "; ".join(f"({name}='{value}'; check_knobs) && echo passed || true" for name, value in cases)
    done = bash(code)
    assert done.stdout == ""
    for name, value in cases:
        assert f"{name}={value} is not a" in done.stderr


def test_right_values_pass():
    right = {
        "LR": ("1e-6", "0.5", ".1", "2", "3E-7", "1."),
        "SEED": ("0", "17"),
        "TEST_FREQ": ("-1", "5"),
        "NGPUS": ("2",),
    }
    code = "; ".join(f"({name}='{value}'; check_knobs)" for name, values in right.items() for value in values)
    done = bash(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_variable_of_a_head_is_checked():
    """But those that choose a name or a path."""
    names = {
        "METHOD",
        "MODEL",
        "SCALE",
        "DATA",
        "OUT",
        "RECIPE",
        "ROWS",
        "VENV",
        "RUN_NAME",
        "DRY_RUN",
        "PYTHON",
        "PORT",
        "TRAIN_SET",
        "VAL_SET",
        "DEVICE",
    }
    known = set(bash('printf "%s" "$KNOBS"').stdout.split()[::2])
    for script in (ROOT / "examples").glob("*.sh"):
        for line in script.read_text().splitlines():
            name, _, value = line.partition("=")
            if name.isupper() and value.startswith(f"${{{name}:-"):
                assert name in known | names, f"{script.name}: {name}"


def test_a_run_keeps_what_it_was_started_with(tmp_path):
    run = tmp_path / "my run"
    check = f"compare_settings '{run}' METHOD LR MODEL"
    start = f"{check}; keep_settings '{run}'"
    base = {"METHOD": "paper", "LR": "1e-6", "MODEL": "a b"}
    assert bash(start, **base).returncode == 0
    assert bash(start, **base).returncode == 0  # a resume
    other = bash(f"OVERRIDES=(x.y=1); {start}", **base | {"LR": "3e-6"})
    assert other.returncode == 1
    assert "LR: 1e-6 at its start, 3e-6 now" in other.stderr
    assert "OVERRIDES:  at its start, x.y=1 now" in other.stderr
    assert "METHOD" not in other.stderr
    assert "CHANGE_SETTINGS=yes" in other.stderr
    assert "RUN_NAME" in other.stderr
    assert bash(check, **base | {"LR": "3e-6"}).returncode == 1
    assert bash(start, CHANGE_SETTINGS="yes", **base | {"LR": "3e-6"}).returncode == 0
    assert "LR=3e-6\n" in (run / "settings").read_text()
    assert bash(start, **base).returncode == 1
    assert bash(f"compare_settings '{tmp_path}/dry' LR", LR="1").returncode == 0
    assert not (tmp_path / "dry").exists()


def test_an_interrupted_environment_is_made_anew(tmp_path):
    """It has python and no pip: as after Ctrl-C in `python -m venv`."""
    venv = tmp_path / "venv"
    subprocess.run(["python3", "-m", "venv", "--without-pip", venv], check=True)
    stub = 'python=$venv/bin/python; [ -e "$venv/.made" ] || echo unmade'
    assert "unmade" in bash(f"venv='{venv}'; {stub}").stdout
    text = (ROOT / "examples/quickstart/env.sh").read_text()
    (line,) = (line for line in text.splitlines() if "-m venv" in line)
    done = bash(f"venv='{venv}' python=python3; {line.strip()}")
    assert done.returncode == 0, done.stderr
    assert (
        subprocess.run([venv / "bin/python", "-m", "pip", "--version"], capture_output=True, check=False).returncode
        == 0
    )


SCRIPTS = [path.relative_to(ROOT) for room in ("examples", "tests", "tools") for path in (ROOT / room).glob("*.sh")]
SCRIPTS = sorted(path for path in SCRIPTS if path.name not in ("common.sh", "settings.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(script, flag, tmp_path):
    """At once, from any folder, and nothing is made: it is the head of the script."""
    made = set((ROOT / "outputs").glob("*"))
    done = subprocess.run(
        ["bash", os.path.relpath(ROOT / script, tmp_path), flag],
        cwd=tmp_path,
        env=os.environ | {"VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{script} " in done.stdout or f"{script}\n" in done.stdout
    assert "set -euo" not in done.stdout
    assert "#SBATCH" not in done.stdout
    assert not list(tmp_path.iterdir())
    assert set((ROOT / "outputs").glob("*")) == made


MODULES = [f"recipe.asymgrpo.{name}" for name in ("curves", "data", "doctor", "pass_at_k", "report")]
MODULES += ["verl_ext.watch", "verl_ext.dry_run", "benchmarks.study.analysis", "benchmarks.gpu_check"]


@pytest.mark.parametrize("module", MODULES)
def test_help_of_modules(module):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m {module}" in done.stdout
