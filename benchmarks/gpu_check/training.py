"""Part 3: a recipe at SCALE=tiny on the GPU itself."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_check import ABSENT, FAIL, PASS, Finding

ROOT = Path(__file__).resolve().parents[2]
TINY = "run_qwen2_5_0_5b_1gpu"


def check_training(device: str, out: Path, limit: float) -> list[Finding]:
    """Two steps on the GPU itself, then a third after a resume, within `limit` seconds; on a CPU that is not here."""
    if device == "cpu":
        return [Finding(3, "training", ABSENT, f"on a CPU: SCALE=tiny bash examples/{TINY}.sh")]
    needed = ("verl", "vllm", "ray", "tensordict", "transformers", "pyarrow", "math_verify")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        return [Finding(3, "training", ABSENT, f"missing: {', '.join(missing)}")]
    flash = "present" if importlib.util.find_spec("flash_attn") else "missing: attention was sdpa"
    return [
        *train_and_resume(device, out, limit),
        Finding(3, "flash-attn", PASS if flash == "present" else ABSENT, flash),
    ]


def train_and_resume(device: str, out: Path, limit: float) -> list[Finding]:
    """Findings of two steps and of a third; what an earlier check has left in `out` is removed."""
    folder = out / "training"
    shutil.rmtree(folder / TINY, ignore_errors=True)
    run = folder / TINY / "check-seed1"
    findings, until = list[Finding](), time.monotonic() + limit
    for what, steps in (("two steps", 2), ("resumed", 3)):
        (run / "done.json").unlink(missing_ok=True)  # with it the script takes the run for finished
        started = time.monotonic()
        status, output = start(device, folder, steps, until - started)
        seconds = time.monotonic() - started
        if status is None:
            return [*findings, Finding(3, what, FAIL, f"ended after {limit:.0f} s in all; log: {run}/train.log")]
        if status:
            return [*findings, Finding(3, what, FAIL, f"exit status {status}: {' / '.join(output.splitlines()[-4:])}")]
        findings.append(judge_training(what, run, steps, seconds))
    return findings


def start(device: str, folder: Path, steps: int, limit: float) -> tuple[int | None, str]:
    """Exit status and output of one start of the recipe; None where it had to be ended."""
    knobs = {"SCALE": "tiny", "DEVICE": device, "OUT": str(folder), "STEPS": str(steps), "SEED": "1"}
    knobs |= {"RUN_NAME": "check", "PYTHON": sys.executable, "VENV": sys.prefix, "HF_HUB_OFFLINE": "1"}
    overrides = ["actor_rollout_ref.rollout.calculate_log_probs=True", "trainer.test_freq=-1"]
    with subprocess.Popen(
        ["bash", str(ROOT / "examples" / f"{TINY}.sh"), *overrides],
        env={**os.environ, **knobs},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=max(10.0, limit))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # the watcher in it shuts Ray and vLLM down
            process.communicate()
            return None, ""
    return process.returncode, output.strip()


def judge_training(what: str, run: Path, steps: int, seconds: float) -> Finding:
    """The last start of a run: its steps, that its figures are numbers, and vLLM's weights those of the trainer."""
    log = max(run.glob("metrics-*.jsonl"))
    found: dict[int, dict[str, Any]] = {}
    for line in log.read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["step"], {}).update(record["data"])
    last = found.get(steps, {})
    trained = [step for step, data in found.items() if "actor/grad_norm" in data]  # a resume validates the step before
    wanted = ("asymgrpo/group_accuracy", "actor/grad_norm", "training/rollout_probs_diff_mean", "actor/pg_loss")
    bad = [key for key in wanted if not math.isfinite(last.get(key, math.nan))]
    apart = last.get("training/rollout_probs_diff_mean", math.nan)
    if bad:
        status, words = FAIL, f"no number for {', '.join(bad)} in step {steps} of {log}"
    elif what == "resumed" and (first := min(trained)) < steps:
        status, words = FAIL, f"began at step {first} instead of {steps}"
    else:
        # bfloat16 has 8 bits: a probability differs by some hundredths at the most; unsynced weights by far more.
        status = PASS if apart < 0.05 else FAIL
        words = (
            f"{seconds:.0f} s; probabilities of vLLM and trainer differ by {apart:.1e} in the mean (below 0.05), "
            f"group accuracy {last['asymgrpo/group_accuracy']:.2f}"
        )
    return Finding(3, what, status, words, {key: last.get(key) for key in wanted} | {"seconds": seconds})
