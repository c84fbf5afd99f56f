"""What an experiment of the study is, its tasks, and how step sizes are chosen from results."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.study.methods import LONGER_METHODS, METHODS

FORMAT = 2  # raise it when a change of an engine changes results: everything is then run anew

# The quickstart's MODEL, and how many steps.
TASKS = {"chain_sum": "small", "countdown": "countdown"}
OTHER_TASKS = {"quantum_lock": "quantum_lock"}  # of the long runs only
LONG_TASKS = TASKS | OTHER_TASKS
LARGE_TASK, LARGE_MODEL = "countdown", "countdown_large"
STEPS = {"chain_sum": 40, "countdown": 80}
LONG_STEPS = {task: 5 * steps for task, steps in STEPS.items()} | {"quantum_lock": 400}
LARGE_STEPS = 200
LEARNING_RATES = (2e-4, 4e-4, 8e-4, 1.6e-3)
LONG_LEARNING_RATES = (1e-4, 2e-4, 4e-4, 8e-4)  # where the best is at an end, that end is moved
LARGE_LEARNING_RATES = (1e-4, 2e-4, 4e-4)  # as above
CONTROL_LEARNING_RATES = (2e-4, 4e-4, 8e-4)  # as above
LOWEST, HIGHEST = 1.25e-5, 3.2e-3
HOPELESS = 0.1  # pass@1 behind a method's best step size so far: no more seeds, of which one step size's sd is 0.03
BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
COEFFICIENTS = (0.0, 0.1, 0.3, 1.0)
VERL_TASK = "countdown"
TUNED, FRESH, FEW = range(1, 4), range(11, 21), range(11, 16)  # seeds: to choose a step size, and to report
FEW_TUNED = range(1, 3)
LONG_GRIDS = {
    "long_grid": (LONG_LEARNING_RATES, TUNED),
    "large_grid": (LARGE_LEARNING_RATES, FEW_TUNED),
    "control_grid": (CONTROL_LEARNING_RATES, FEW_TUNED),
    "control_800_grid": (LARGE_LEARNING_RATES, FEW_TUNED),
}
LONG_FINALS = ("long_final", "large")

Result = dict[str, Any]


class Incomplete(Exception):
    """A group needs the results of another one; the message says which."""


@dataclass(frozen=True)
class Experiment:
    """One training.

    Args:
        group: what it is for; one of `GROUPS`.
        engine: `verl` (its trainer, through examples/quickstart.sh) or `light` (benchmarks/study/light.py).
        mean_size_of: a method whose mean |A| in every batch this one's was scaled to, in the groups `SUPERSEDED`.
    """

    group: str
    engine: str
    method: str
    overrides: tuple[str, ...]
    task: str
    seed: int
    lr: float
    steps: int
    mean_size_of: str | None = None

    @property
    def selection(self) -> bool:
        """Whether it is there to choose settings: then it is evaluated on prompts that no comparison uses."""
        return self.group in ("grid", "coefficients", "control_levels", *LONG_GRIDS)

    @property
    def model(self) -> str:
        """The quickstart's MODEL."""
        if self.group.startswith("large"):
            return LARGE_MODEL
        return "smollm2" if self.group == "smollm2" else LONG_TASKS[self.task]

    @property
    def config_hash(self) -> str:
        return hashlib.sha256(json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True).encode()).hexdigest()[:16]


def settled(results: Iterable[Result]) -> list[Result]:
    """The last try of every run: a failure that a second try has made good does not count. Repetitions all stay."""
    last: dict[Any, Result] = {}
    for number, row in enumerate(results):
        last[number if row["group"] == "rerun" else (row["group"], row["config_hash"])] = row
    return list(last.values())


def lr_scores(results: Iterable[Result], grid: str, method: str, task: str) -> dict[float, list[float]]:
    """By step size, the accuracies on the selection prompts of a method's runs in a grid."""
    overrides = (LONGER_METHODS if grid in LONG_GRIDS else METHODS)[method]
    found: dict[float, list[float]] = {}
    for row in settled(results):
        same = (row["group"], row["method"], row["task"]) == (grid, method, task)
        if same and tuple(row["overrides"]) == overrides:
            # A training that failed has solved nothing.
            found.setdefault(row["lr"], []).append(row["val_acc"] or 0.0)
    return found


def _best(scores: dict[float, list[float]]) -> float:
    return max(sorted(scores), key=lambda lr: round(statistics.fmean(scores[lr]), 6))


def has_all_seeds(scores: dict[float, list[float]], lr: float, seeds: int = len(TUNED)) -> bool:
    """Whether a step size of a long grid has had all the seeds it gets: fewer where it is hopeless."""
    if not all(scores.values()):
        return False
    best = max(map(statistics.fmean, scores.values()))
    return len(scores[lr]) >= seeds or statistics.fmean(scores[lr]) < best - HOPELESS


def long_scores(results: Sequence[Result], method: str, task: str, grid: str = "long_grid") -> dict[float, list[float]]:
    """The step sizes of a method's long grid with their scores so far: the common ones, and where the best of those
    that have all seeds is at an end, one more beyond it."""
    found = lr_scores(results, grid, method, task)
    common, seeds = LONG_GRIDS[grid]
    rates = sorted(common)
    while True:
        scores = {lr: found.get(lr, []) for lr in rates}
        if not all(has_all_seeds(scores, lr, len(seeds)) for lr in rates):
            return scores
        best = _best(scores)
        if best == rates[0] and best > LOWEST:
            rates.insert(0, best / 2)
        elif best == rates[-1] and best < HIGHEST:
            rates.append(best * 2)
        else:
            return scores


def best_lr(results: Sequence[Result], method: str, task: str, grid: str = "grid") -> float:
    """The step size with the best mean accuracy on the selection prompts, of a grid of the light engine.

    Raises:
        Incomplete: the grid of this method and task has not finished.
    """
    if grid == "grid":
        scores: dict[float, list[float]] = {lr: [] for lr in LEARNING_RATES}
        scores |= lr_scores(results, grid, method, task)
        whole = all(len(found) >= len(TUNED) for found in scores.values())
    else:
        scores = long_scores(results, method, task, grid)
        whole = all(has_all_seeds(scores, lr, len(LONG_GRIDS[grid][1])) for lr in scores)
    if not whole:
        raise Incomplete(f"the step size of {method} on {task} is not known yet: run.sh --only {grid}")
    return _best(scores)


def grid_of(
    results: Sequence[Result], group: str, pairs: Sequence[tuple[str, str]], steps: Mapping[str, int]
) -> Iterator[Experiment]:
    """What is done or wanted of a grid that grows: all seeds of every step size that is not hopeless."""
    scores = {(task, method): long_scores(results, method, task, group) for task, method in pairs}
    done = {row["config_hash"] for row in results if row["group"] == group}
    seeds = LONG_GRIDS[group][1]
    for seed, (task, method) in itertools.product(seeds, pairs):
        for lr in scores[task, method]:
            one = Experiment(group, "light", method, LONGER_METHODS[method], task, seed, lr, steps[task])
            if one.config_hash in done or not has_all_seeds(scores[task, method], lr, len(seeds)):
                yield one


SUPERSEDED = {
    "equal": "advantages scaled, batch by batch, to GRPO's mean |A|: under AdamW that is no control for the step size",
    "long": "long runs at the step sizes of the short ones, which are too large for them",
    "long_equal": "both of the above",
}
"""Groups whose results stay as they are, why no table compares methods by them, and that nothing makes any more."""
