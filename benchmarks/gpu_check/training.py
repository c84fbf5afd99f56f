"""Part 3: a recipe at SCALE=tiny on the GPU itself."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_check import ABSENT, FAIL, PASS, Finding

ROOT = Path(__file__).resolve().parents[2]
TINY = "run_qwen2_5_0_5b_1gpu"


def check_training(device: str, out: Path, limit: float) -> list[Finding]:
    """Two steps on the GPU itself, then a third after a resume."""
    if device == "cpu":
        return [Finding(3, "training", ABSENT, f"on a CPU: SCALE=tiny bash examples/{TINY}.sh")]
    needed = ("verl", "vllm", "ray", "tensordict", "transformers", "pyarrow", "math_verify")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        return [Finding(3, "training", ABSENT, f"missing: {', '.join(missing)}")]
    folder = out / "training"
    findings, until = list[Finding](), time.monotonic() + limit
    for what, steps in (("two steps", 2), ("resumed", 3)):
        started = time.monotonic()
        knobs = {"SCALE": "tiny", "DEVICE": "cuda", "PYTHON": sys.executable, "OUT": str(folder), "STEPS": str(steps)}
        command = ["bash", str(ROOT / "examples" / f"{TINY}.sh")]
        command += ["actor_rollout_ref.rollout.calculate_log_probs=True", "trainer.test_freq=-1"]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **knobs, "RUN_NAME": "check"},
                capture_output=True,
                text=True,
                timeout=max(10.0, until - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [*findings, Finding(3, what, FAIL, f"not ended after {limit:.0f} s; log: {folder}")]
        seconds = time.monotonic() - started
        if done.returncode:
            tail = " / ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
            return [*findings, Finding(3, what, FAIL, f"exit status {done.returncode}: {tail}")]
        (run,) = (folder / TINY).glob("check-seed*")
        findings.append(judge_training(what, run, steps, seconds))
    flash = "present" if importlib.util.find_spec("flash_attn") else "missing: attention was sdpa"
    return [*findings, Finding(3, "flash-attn", PASS if flash == "present" else ABSENT, flash)]


def judge_training(what: str, run: Path, steps: int, seconds: float) -> Finding:
    """The last start of a run: its steps, that its figures are numbers, and vLLM's weights those of the trainer."""
    log = max(run.glob("metrics-*.jsonl"))
    found: dict[int, dict[str, Any]] = {}
    for line in log.read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["step"], {}).update(record["data"])
    last = found.get(steps, {})
    wanted = ("asymgrpo/group_accuracy", "actor/grad_norm", "training/rollout_probs_diff_mean", "actor/pg_loss")
    bad = [key for key in wanted if not math.isfinite(last.get(key, math.nan))]
    apart = last.get("training/rollout_probs_diff_mean", math.nan)
    if bad:
        status, words = FAIL, f"no number for {', '.join(bad)} in step {steps} of {log}"
    elif what == "resumed" and min(found) < steps:
        status, words = FAIL, f"began at step {min(found)} instead of {steps}"
    else:
        # bfloat16 has 8 bits: a probability differs by some hundredths at the most; unsynced weights by far more.
        status = PASS if apart < 0.05 else FAIL
        words = (
            f"{seconds:.0f} s; probabilities of vLLM and trainer differ by {apart:.1e} in the mean (below 0.05), "
            f"group accuracy {last['asymgrpo/group_accuracy']:.2f}"
        )
    return Finding(3, what, status, words, {key: last.get(key) for key in wanted} | {"seconds": seconds})
