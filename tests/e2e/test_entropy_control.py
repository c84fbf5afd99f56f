"""The entropy control in verl's trainer for real: held between its levels, through a kill, where a run without falls.

bash tests/run.sh tests/e2e/test_entropy_control.py -m slow
"""

import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from trainings import finish, records, start, wait

STEPS = 60
CONTROL = "algorithm.asym_grpo.entropy_control"
SETTINGS = (  # a step size two and a half times the quickstart's
    "actor_rollout_ref.actor.optim.lr=1e-3",
    "data.val_max_samples=64",
    "trainer.test_freq=30",
    "trainer.save_freq=10",
)
FLOOR, CEILING = 0.6, 1.1
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def quickstart(out: Path, *overrides: str, **knobs: str) -> subprocess.Popen:
    return start("quickstart", *SETTINGS, *overrides, OUT=str(out), STEPS=str(STEPS), SEED="1", **knobs)


def last_half(logged: dict[int, dict], key: str) -> float:
    return statistics.fmean(logged[step][key] for step in range(STEPS // 2 + 1, STEPS + 1))


def test_entropy_stays_between_its_levels_through_a_kill(tmp_path):
    held = (f"{CONTROL}.way=both", f"{CONTROL}.floor={FLOOR}", f"{CONTROL}.ceiling={CEILING}")
    process = quickstart(tmp_path, *held, METHOD="grpo,entropy_floor")
    wait(process, lambda: list(tmp_path.glob("small/*/checkpoints/global_step_20/data.pt")))
    time.sleep(10)  # some steps beyond the checkpoint, which are lost
    os.killpg(process.pid, signal.SIGINT)
    finish(process, expected=130)
    (run,) = tmp_path.glob("small/grpo+entropy_floor*")
    state = json.loads((run / "checkpoints/global_step_20/entropy_control.json").read_text())

    finish(quickstart(tmp_path, *held, METHOD="grpo,entropy_floor"))
    logged = records(run)
    assert sorted(logged) == list(range(STEPS + 1))
    first = logged[1]["asymgrpo/control/entropy"]
    assert state["reference"] == pytest.approx(first)
    for step in range(1, STEPS + 1):
        # V1's own entropy of every token, not an estimate; and levels of the first start's first step throughout.
        assert logged[step]["asymgrpo/control/entropy"] == pytest.approx(logged[step]["actor/entropy"], rel=1e-4)
        assert logged[step]["asymgrpo/control/floor"] == pytest.approx(FLOOR * first)
        assert logged[step]["asymgrpo/control/ceiling"] == pytest.approx(CEILING * first)
    entropy = last_half(logged, "actor/entropy")
    assert 0.9 * FLOOR * first <= entropy <= 1.1 * CEILING * first
    assert last_half(logged, "asymgrpo/control/action") > 0
    assert "entropy is the trainer's per-token entropy" in (run / "train.log").read_text()

    finish(quickstart(tmp_path, METHOD="grpo"))
    (plain,) = tmp_path.glob("small/grpo-*")
    without = last_half(records(plain), "actor/entropy")
    assert without < 0.75 * FLOOR * first, "this step size does not lower the entropy: nothing was shown"
    print(f"entropy of the last half, by the first step's: {entropy / first:.3f} held, {without / first:.3f} without")
