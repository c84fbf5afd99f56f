"""The doctor, in environments that lack something."""

import os
import subprocess
import sys

import pytest

from recipe.asymgrpo import doctor
from recipe.asymgrpo.doctor import FAIL, OK, WARN


def one(findings):
    (finding,) = findings
    return finding


def test_here(tmp_path):
    """All of it for real, a Ray worker included."""
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "recipe.asymgrpo.doctor", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *checks, verdict = done.stdout.splitlines()
    assert {line.split()[0] for line in checks} <= {OK, WARN}
    assert any("the plugin is registered on" in line for line in checks)
    assert any(line.startswith("OK    plugin") for line in checks)
    assert any(line.startswith("OK    verl          0.9.1") for line in checks)
    assert any(line.startswith("OK    verl's parts") for line in checks)
    assert "platform cpu" in done.stdout
    assert verdict == "it can train; see the warnings"


def test_a_newer_verl_is_judged_by_its_parts(monkeypatch):
    """A version beyond the tested ones is a warning; what the plugin leans on decides."""
    newer = {"verl": "0.10.0.dev0", "torch": "2.14.0", "vllm": "0.28.0", "ray": "2.60", "transformers": "5.10.4"}
    monkeypatch.setattr(doctor, "version_of", newer.get)
    assert {f.topic: f.status for f in doctor.check_versions()}["verl"] == WARN
    core = "verl.trainer.ppo.core_algos"
    gone = ((core, "NO_REGISTRY", (), False), (core, "agg_loss", ("flavour",), False), (core, "nowhere", (), True))
    monkeypatch.setattr(doctor, "LEANS_ON", (*doctor.LEANS_ON, *gone))  # of its own parts nothing is said
    first, second, third = doctor.check_leaning()
    assert (first.status, second.status, third.status) == (FAIL, FAIL, WARN)
    assert "core_algos.NO_REGISTRY is not there" in first.text
    assert "has no parameter flavour" in second.text


@pytest.mark.parametrize(
    ("version", "named"), [("2.7.1", 0), ("2.8.0", 1), ("2.13.0+cpu", 1), ("2.14.1", 1), ("2.15.0", 0)]
)
def test_torch_versions_that_bake_numbers_into_compiled_code(version, named, monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: version)
    found = doctor.check_compiler()
    assert len(found) == named
    assert all("#194976" in finding.text for finding in found)


def test_without_the_plugin(monkeypatch, capsys):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.setattr(doctor, "check_leaning", list)  # another process that imports verl
    assert doctor.main(["--no-ray"]) == 1
    printed = capsys.readouterr().out
    finding = one(line for line in printed.splitlines() if line.startswith(f"{FAIL}  plugin"))
    assert f"{sys.executable} -m pip install . in the folder of verl-asymgrpo" in finding
    assert printed.endswith("mend what says FAIL first\n")


def test_a_verl_without_entry_points(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.setattr(doctor, "version_of", lambda name: "0.8.0")
    assert "export VERL_USE_EXTERNAL_MODULES=verl_ext.plugin" in one(doctor.check_plugin()).text


@pytest.mark.ci
def test_a_worker_without_the_plugin(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    finding = one(doctor.check_ray())
    assert finding.status == FAIL
    assert "install verl-asymgrpo on that node" in finding.text


def test_versions(monkeypatch):
    versions = {"verl": "0.5.0", "torch": "2.13.0+cu130", "vllm": None, "ray": "2.60.1", "transformers": "7.0.dev1"}
    monkeypatch.setattr(doctor, "version_of", versions.get)
    findings = {finding.topic: finding for finding in doctor.check_versions()}
    assert {name: findings[name].status for name in versions} == {
        "verl": FAIL,
        "torch": OK,
        "vllm": FAIL,
        "ray": OK,
        "transformers": WARN,
    }
    assert "tested with 0.9.1" in findings["verl"].text
    assert findings["math-verify"].status == WARN
    assert "pip install math-verify" in findings["math-verify"].text


@pytest.mark.parametrize(
    ("text", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("0.9", (0, 9)), ("1.2rc1", (1, 2)), ("dev", ()), ("3.x.1", (3,))]
)
def test_version_numbers(text, numbers):
    assert doctor.as_numbers(text) == numbers


def test_hub_and_wandb_and_space(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    finding = one(doctor.check_hub())
    assert finding.status == WARN
    assert "--local" in finding.text
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in one(doctor.check_hub()).text
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "offline" in one(doctor.check_wandb()).text
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 10**9)
    assert doctor.check_space(tmp_path / "not" / "there")[0].status == WARN
