"""gpu_check without a GPU: its parts 1 and 2 on a CPU, and that it sees what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.gpu_check import training, values
from recipe.asymgrpo import groups, policy_loss

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    import os

    command = ["bash", "examples/gpu_check.sh", *arguments]
    env = {**os.environ, "VENV": sys.prefix, "PYTHON": sys.executable, **env}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    done = run(OUT=str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr == ("gpu_check: no GPU that this torch can use; DEVICE=cpu runs parts 1 and 2 without one\n")
    assert not list(tmp_path.iterdir())
    assert "DEVICE=gpu is unknown; choose cuda or cpu" in run(DEVICE="gpu").stderr


@pytest.mark.ci
def test_parts_1_and_2_on_a_cpu(tmp_path):
    done = run(DEVICE="cpu", OUT=str(tmp_path))
    record = json.loads((tmp_path / "gpu_check.json").read_text())
    found = {finding["what"]: finding for finding in record["findings"]}
    assert done.returncode == any(finding["status"] == "FAIL" for finding in found.values())
    # How fast it is beside other tests is no verdict.
    assert {name for name, one in found.items() if one["status"] == "FAIL" and one["part"] != 2} == set(), done.stdout
    assert {"estimator, bit by bit", "diagnostics", "loss, eager, bfloat16", "loss, compiled, float32"} <= set(found)
    assert found["estimator, bit by bit"]["figures"]["batches"] > 150
    assert found["estimator, time"]["figures"]["grpo_vectorized"] > 0.5
    assert found["loss, time, float32"]["figures"]["of"] == "vanilla"
    assert found["training"]["status"] == "not here"
    page = (tmp_path / "gpu_check.md").read_text()
    assert page.startswith("# gpu_check on ")
    assert all(f"| {name} |" in page for name in found)


def statuses(findings):
    return {finding.what: finding.status for finding in findings}


def test_a_wrong_estimate_is_seen(monkeypatch):
    calls = []

    def every_other_differs(*args, **kwargs):
        calls.append(1)
        found = original(*args, **kwargs)
        return found if len(calls) % 2 else groups.Groups(**{**vars(found), "success": ~found.success})

    original = groups.form_groups
    monkeypatch.setattr("recipe.asymgrpo.advantage.form_groups", every_other_differs)
    assert set(statuses(values.check_estimator("cpu")).values()) == {"FAIL"}


@pytest.mark.parametrize("fault", ["loss", "gradient", "sums", "padding"])
def test_a_wrong_loss_is_seen(monkeypatch, fault):
    def wrong(*args, **kwargs):
        loss, sums = policy_loss.loss_and_sums(*args, **kwargs)
        new, mask = args[1], args[3] != 0
        nothing = new - new.detach()
        if fault == "loss":
            loss = loss + 0.1
        elif fault == "gradient":
            loss = loss + (nothing * mask).sum() * loss.detach()
        elif fault == "padding":
            loss = loss + (nothing * ~mask).sum()
        else:
            sums = sums * 1.1
        return loss, sums

    monkeypatch.setattr(policy_loss, "_compiled", lambda mode, *args, **kwargs: wrong(*args, **kwargs))
    found = statuses(values.check_loss("cpu"))
    assert {what: status for what, status in found.items() if "eager" in what} == {
        "loss, eager, float32": "PASS",
        "loss, eager, bfloat16": "PASS",
    }
    assert found["loss, compiled, float32"] == "FAIL"


def test_a_loss_that_cannot_be_compiled_is_no_pass(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(policy_loss, "_compilation", lambda *choice: fails)
    monkeypatch.setattr(policy_loss, "_compile_failures", [])
    found = values.check_loss("cpu")
    assert statuses(found)["loss, compiled, float32"] == "FAIL"
    assert "torch.compile failed: no compiler" in next(one.words for one in found if "compiled" in one.what)


GOOD = {
    "asymgrpo/group_accuracy": 0.5,
    "actor/grad_norm": 1.0,
    "actor/pg_loss": 0.1,
    "training/rollout_probs_diff_mean": 0.001,
}


@pytest.mark.parametrize(
    ("steps", "change", "status"),
    [
        ([3], {}, "PASS"),
        ([1, 2, 3], {}, "FAIL"),
        ([3], {"training/rollout_probs_diff_mean": 0.2}, "FAIL"),
        ([3], {"actor/grad_norm": float("nan")}, "FAIL"),
        ([2], {}, "FAIL"),
    ],
)
def test_the_verdict_on_a_resumed_training(tmp_path, steps, change, status):
    lines = [json.dumps({"step": step, "data": {**GOOD, **change}}) for step in steps]
    lines.insert(0, '{"step": 2, "data": {"val-core/gsm8k/acc/mean@2": 0.5}}')  # a resume begins with a validation
    (tmp_path / "metrics-000.jsonl").write_text('{"step": 1, "data": {}}\n')
    (tmp_path / "metrics-001.jsonl").write_text("\n".join(lines) + "\n")
    assert training.judge_training("resumed", tmp_path, 3, 60).status == status


def test_a_training_that_cannot_be_started_names_what_is_missing(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else object())
    (finding,) = training.check_training("cuda", tmp_path, 60)
    assert (finding.status, finding.words) == ("not here", "missing: vllm")


def test_a_training_that_fails_is_told(tmp_path, monkeypatch):
    """On a machine without a GPU the script refuses to start."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (finding,) = training.train_and_resume("cuda", tmp_path, 60)
    assert finding.status == "FAIL"
    assert "exit status 2" in finding.words
    assert "no GPU that torch" in finding.words


@pytest.mark.e2e
@pytest.mark.slow
def test_part_3_on_a_cpu(tmp_path):
    """Its own path through the trainer, twice: what the first has left does not stand for the second's result."""
    for _ in range(2):
        found = training.train_and_resume("cpu", tmp_path, 900)
        assert [(one.what, one.status) for one in found] == [("two steps", "PASS"), ("resumed", "PASS")], found
    (finding,) = training.train_and_resume("cpu", tmp_path, 30)
    assert "ended after 30 s in all" in finding.words
    assert not [p for p in psutil.Process().children(recursive=True) if "ray" in p.name()]


WITHOUT_VERL = """
import sys
sys.modules["verl"] = None
from benchmarks.gpu_check.__main__ import main
assert main(["--device", "cpu", "--out", sys.argv[1], "--parts", "1", "2"]) == 0
assert not [name for name in sys.modules if name.startswith("verl.")]
"""


@pytest.mark.ci
def test_torch_alone_is_enough(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VERL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no verl here to compare with" in done.stdout
