"""verl's own tests, which its wheel brings along, end the same with the plugin as without it."""

import importlib.metadata
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

TOPICS = ("core_algos", "policy_loss", "loss_aggregation", "metric_utils", "trajectories_advantage")
WITHOUT = {"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": ""}
WITH = {"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": "verl_ext.plugin"}


def verls_tests() -> list[Path]:
    files = importlib.metadata.files("verl") or []
    own = (file for file in files if file.parts[:2] == ("tests", "trainer") and file.suffix == ".py")
    return sorted(Path(str(file.locate())) for file in own if any(topic in file.name for topic in TOPICS))


def outcomes(out: Path, env: dict[str, str]) -> dict[str, str]:
    """By test: passed, failed, error or skipped."""
    code = "import verl; from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as r; print('asym_grpo' in r)"
    env = os.environ | env
    here = subprocess.run([sys.executable, "-c", code], env=env, cwd=out, capture_output=True, text=True, check=True)
    assert here.stdout.split()[-1] == str(env["VERL_USE_EXTERNAL_MODULES"] != "")
    report = out / f"{env['VERL_USE_EXTERNAL_MODULES'] or 'none'}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(out)]
    done = subprocess.run(
        [*command, f"--junit-xml={report}", *map(str, verls_tests())],
        env=env,
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}.{case.get('name')}"] = kinds.pop() if kinds else "passed"
    return found


@pytest.mark.ci
@pytest.mark.skipif(not verls_tests(), reason="this verl was installed without its tests")
def test_same_outcomes(tmp_path):
    without, with_plugin = outcomes(tmp_path, WITHOUT), outcomes(tmp_path, WITH)
    assert with_plugin == without
    assert list(without.values()).count("passed") >= 20
