"""The plugin as verl loads it: in fresh processes, through an entry point made for the test."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import verl_ext.plugin
from verl_ext.registry import RegistrationError

ROOT = Path(__file__).resolve().parents[2]
entry_points = pytest.mark.skipif(find_spec("verl.plugin") is None, reason="verl has entry points from 0.9 on")
REPORT = """
import json, sys
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY
found = ADV_ESTIMATOR_REGISTRY.get("asym_grpo")
print(json.dumps(f"{found.__module__}.{found.__qualname__}" if found else None))
"""


@pytest.fixture
def python(tmp_path):
    """Runs code in a process where verl finds one plugin, ours, through an entry point."""
    info = tmp_path / "asymgrpo_under_test-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: asymgrpo-under-test\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text("[verl.plugins]\nasymgrpo_under_test = verl_ext.plugin\n")

    def run(code: str, **env: str) -> subprocess.CompletedProcess:
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "VERL_USE_EXTERNAL_PLUGINS": "asymgrpo_under_test",
            "VERL_USE_EXTERNAL_MODULES": "",
            "OMP_NUM_THREADS": "1",
            **env,
        }
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tmp_path)

    return run


def last_line(done: subprocess.CompletedProcess):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def broken(tmp_path):
    """An installation whose algorithm cannot be imported."""
    package = tmp_path / "recipe" / "asymgrpo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('half of it is missing')\n")


@entry_points
def test_import_verl_registers_the_estimator(python):
    done = python("import verl\n" + REPORT)
    assert last_line(done) == "recipe.asymgrpo.advantage.compute_asym_grpo_advantage"
    assert "verl-asymgrpo" not in done.stderr


@pytest.mark.ci
def test_importing_the_plugin_first_and_twice_is_harmless(python):
    code = "import verl_ext.plugin, importlib\nimportlib.reload(verl_ext.plugin)\n" + REPORT
    done = python(code, VERL_USE_EXTERNAL_MODULES="verl_ext.plugin")
    assert last_line(done) == "recipe.asymgrpo.advantage.compute_asym_grpo_advantage"
    assert "verl-asymgrpo" not in done.stderr


def test_loading_brings_no_third_party_module(python):
    code = """
import json, sys
import verl.trainer.ppo.core_algos
before = set(sys.modules)
import verl_ext.plugin
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)))
"""
    assert last_line(python(code, VERL_USE_EXTERNAL_PLUGINS="none")) == ["recipe", "verl_ext"]


@entry_points
@pytest.mark.usefixtures("broken")
def test_a_broken_plugin_is_visible_and_verl_survives(python):
    done = python("import verl\n" + REPORT)
    assert last_line(done) is None
    assert "verl-asymgrpo: register_estimator failed" in done.stderr
    assert "algorithm.adv_estimator=asym_grpo" in done.stderr
    assert "ImportError: half of it is missing" in done.stderr


@entry_points
def test_another_package_of_the_name_does_not_end_strangers_runs(python, tmp_path):
    """verl's older checkouts, and many forks, have a package `recipe` in the folder where a run starts."""
    hiding = tmp_path / "shadow/recipe/__init__.py"
    hiding.parent.mkdir(parents=True)
    hiding.touch()
    start = f"import sys\nsys.path.insert(0, {str(hiding.parents[1])!r})\n"
    hide = "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    check = (
        "import verl.utils.config\n"
        "assert not hasattr(verl.utils.config.validate_config, 'checks_asym_grpo')\n"
        "from verl.trainer.ppo.ray_trainer import compute_advantage\n"
        "assert not hasattr(compute_advantage, '__wrapped__')\n"
    )
    done = python(start + hide + "import verl\n" + check + REPORT)
    assert last_line(done) is None, done.stderr
    assert f"{hiding} hides the package recipe.asymgrpo" in done.stderr


@pytest.mark.usefixtures("broken")
def test_a_broken_plugin_stops_who_asked_for_it_by_name(python):
    done = python("import verl", VERL_USE_EXTERNAL_PLUGINS="none", VERL_USE_EXTERNAL_MODULES="verl_ext.plugin")
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith("ImportError: half of it is missing")


@entry_points
def test_a_stranger_under_our_name_is_visible_and_named(python, tmp_path):
    (tmp_path / "other_plugin.py").write_text(
        "from verl.trainer.ppo.core_algos import register_adv_est\n"
        "@register_adv_est('asym_grpo')\n"
        "def their_estimator(**kwargs): ...\n"
    )
    done = python("import verl\n" + REPORT, VERL_USE_EXTERNAL_MODULES="other_plugin")
    assert last_line(done) == "other_plugin.their_estimator"
    assert "RegistrationError: algorithm.adv_estimator=asym_grpo: the name is taken by" in done.stderr
    assert f"other_plugin.their_estimator ({tmp_path / 'other_plugin.py'})" in done.stderr


def test_one_broken_part_does_not_stop_the_others(monkeypatch, caplog):
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    monkeypatch.setitem(ADV_ESTIMATOR_REGISTRY, "asym_grpo", lambda **_: None)
    reached = []
    monkeypatch.setattr(verl_ext.plugin, "register_platform", lambda: reached.append("platform"))
    with caplog.at_level(logging.WARNING), pytest.raises(RegistrationError, match="is taken by"):
        verl_ext.plugin.register_all()
    assert reached == ["platform"]
    assert "register_estimator failed" in caplog.text


@pytest.mark.parametrize(
    ("version", "supported"), [("0.5.0", False), ("0.6.1", True), ("0.10.0.dev", True), ("", True)]
)
def test_a_verl_that_is_too_old_is_one_sentence(version, supported, monkeypatch, caplog):
    monkeypatch.setattr("verl.__version__", version)
    with caplog.at_level(logging.WARNING):
        if supported:
            verl_ext.plugin.check_verl()
            return
        with pytest.raises(RuntimeError, match=r"verl 0\.5\.0 is not supported; install verl 0\.6 or newer"):
            verl_ext.plugin.register_all()
    assert len(caplog.records) == 1
