"""What the tests of real trainings read from a run's folder, and the paper's formula to compare it with."""

import json
from collections import defaultdict
from pathlib import Path

PAPER = (0.9, 0.4)  # beta_pos, beta_neg of `asymgrpo`, from the paper


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
