"""How the tests start a real training and what they read from its folder; the paper's formula to compare it with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PAPER = (0.9, 0.4)  # beta_pos, beta_neg of `asymgrpo`, from the paper


def start(script: str, *arguments: str, **knobs: str) -> subprocess.Popen:
    """A script of examples/ in this environment, in a session of its own, whose output `finish` returns."""
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        ["bash", f"examples/{script}.sh", *arguments],
        cwd=ROOT,
        env={**env, "VENV": sys.prefix, **knobs},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where the tests run in the background, a shell may have made them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == expected, output
    return output


def wait(process: subprocess.Popen, until: Callable[[], object]) -> None:
    """Until it is true; the training must not end before."""
    deadline = time.monotonic() + 900
    while not until():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "not in 15 minutes"
        time.sleep(0.05)


def records(run: Path) -> dict[int, dict]:
    """Metrics by step; verl logs a step's training and validation in one or two records."""
    steps: dict[int, dict] = defaultdict(dict)
    for path in sorted(run.glob("metrics-*.jsonl")):
        text = path.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():  # a process that was killed may have left half a line
            record = json.loads(line)
            steps[record["step"]] |= record["data"]
    return steps


def groups_of(dump: Path) -> list[list[bool]]:
    """Successes of each prompt's rollouts, from verl's dump; the legacy trainer writes no uid."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for line in dump.read_text().splitlines():
        row = json.loads(line)
        group = row["uid"].rsplit("_", 2)[0] if "uid" in row else row["input"]
        groups[group].append(row["score"] > 0.5)
    return list(groups.values())


def expected_advantages(groups: list[list[bool]]) -> list[float]:
    """The paper's formula, one value a rollout."""
    advantages = []
    for successes in groups:
        p = sum(successes) / len(successes)
        if p in (0, 1):
            advantages += [0.0] * len(successes)
        else:
            failure = -((p / (1 - p)) ** PAPER[1])
            advantages += [((1 - p) / p) ** PAPER[0] if success else failure for success in successes]
    return advantages
