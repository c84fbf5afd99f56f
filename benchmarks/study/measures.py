"""What a training of the study measured, and estimates over seeds with their intervals."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.study.control import ON_FRESH
from benchmarks.study.experiments import (
    BETAS,
    COEFFICIENTS,
    FEW,
    LONG_FINALS,
    LONG_TASKS,
    TASKS,
    Incomplete,
    Result,
    settled,
)
from benchmarks.study.methods import LONG_METHODS, METHODS
from recipe.asymgrpo.report.comparison import interval, smooth, student

LEAST_SEEDS = len(FEW)
SEED_BY_SEED = (*LONG_FINALS, *ON_FRESH)
Name = TypeVar("Name", str, int)
WINDOW = 5  # steps a training figure is averaged over
DEFINITIONS = LONG_METHODS | METHODS
TASK_NAMES = {"chain_sum": "sums", "countdown": "countdown", "quantum_lock": "quantum lock"}
COMPARED = {
    "final": "light",
    "long_final": "light, five times as many steps",
    "control_800": "light, ten times as many steps",
    "verl": "verl",
}
"""Groups in which two methods are compared by seed, and how: each method at its own best step size for that length."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval, Student's t."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of one value a seed.

        Raises:
            Incomplete: there are none.
        """
        if not values:
            raise Incomplete("no finished run")
        mean, half = statistics.fmean(values), interval(values) if len(values) > 1 else 0.0
        return cls(mean, mean - half, mean + half, len(values))

    def p(self, null: float = 0.0) -> float:
        """Two-sided p of the mean's being `null`, of the same Student's t as the interval; 1 for one seed."""
        half, distance = (self.high - self.low) / 2, abs(self.mean - null)
        if self.seeds < 2 or half == 0:
            return float(self.seeds < 2 or distance == 0)
        return student_p(distance / half * student(self.seeds - 1), self.seeds - 1)

    def text(self, digits: int = 3, sign: bool = False) -> str:
        form = f"{'+' if sign else ''}.{digits}f"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


def student_p(t: float, freedom: int) -> float:
    """Two-sided tail of Student's t: P(|T| >= t), t >= 0, in closed form for whole degrees of freedom."""
    angle, odd = math.atan(t / math.sqrt(freedom)), freedom % 2
    term, total = math.cos(angle) ** odd, 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * math.cos(angle) ** 2
    return 1 - (2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's step-down correction, by name."""
    corrected, largest = dict.fromkeys(p_values, 0.0), 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        corrected[name] = largest
    return corrected


def welch(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Mean of a minus that of b, whose seeds are not paired, with Welch's 95 % interval."""
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    half = 0.0
    if any(parts):
        weights = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
        half = student(int(sum(parts) ** 2 / weights)) * math.sqrt(sum(parts))
    gap = statistics.fmean(a) - statistics.fmean(b)
    return Estimate(gap, gap - half, gap + half, min(len(a), len(b)))


class Study:
    """The results by group, and what is read off them. In the groups `SEED_BY_SEED` a method counts on a task from
    `LEAST_SEEDS` seeds on: fewer decide nothing, and tables of what has come in so far would say they did."""

    def __init__(self, results: Iterable[Result]):
        self.rows = list(results)
        self.settled = settled(self.rows)
        self.failed = [row for row in self.settled if row.get("error")]
        self.groups: dict[str, list[Result]] = defaultdict(list)
        there = Counter(map(_cell, (row for row in self.settled if not row.get("error"))))
        for row in self.settled:
            waiting = row["group"] in SEED_BY_SEED and there[_cell(row)] < LEAST_SEEDS
            if not row.get("error") and not waiting:
                self.groups[row["group"]].append(row)

    def runs(self, group: str, method: str, task: str, lr: float | None = None) -> dict[int, Result]:
        """By seed; of a step size, in groups that have several. Rows of an older definition of the method do not
        count."""
        return {
            row["seed"]: row
            for row in self.groups[group]
            if (row["method"], row["task"]) == (method, task)
            and lr in (None, row["lr"])
            and tuple(row["overrides"]) == DEFINITIONS.get(method, tuple(row["overrides"]))
        }

    def estimate(self, group: str, method: str, task: str, measure: Callable[[Result], float]) -> Estimate:
        return Estimate.of([measure(row) for row in self.runs(group, method, task).values()])

    def difference(
        self,
        group: str,
        method: str,
        other: str,
        task: str,
        measure: Callable[[Result], float],
        lr: float | None = None,
    ) -> Estimate:
        """`method` minus `other`, paired by seed: a seed has the same order of prompts in both."""
        a, b = self.runs(group, method, task, lr), self.runs(group, other, task, lr)
        seeds = self.paired(group, method, other, task, lr)
        return Estimate.of([measure(a[seed]) - measure(b[seed]) for seed in seeds])

    def paired(self, group: str, method: str, other: str, task: str, lr: float | None = None) -> list[int]:
        """The seeds that both methods have."""
        return sorted(self.runs(group, method, task, lr).keys() & self.runs(group, other, task, lr).keys())


def _cell(row: Result) -> tuple[str, str, str, float]:
    """What has seeds: some groups run a method at several step sizes."""
    return row["group"], row["method"], row["task"], row["lr"]


def comparison_places(study: Study, method: str, other: str) -> list[tuple[str, str, str]]:
    """(group, task, words) of the comparisons of two methods, wherever both have run; the words name their step sizes
    where those differ."""
    found = []
    for group, task in itertools.product(COMPARED, LONG_TASKS):
        if (group == "final" and task in TASKS) or study.paired(group, method, other, task):
            rates = [{row["lr"] for row in study.runs(group, name, task).values()} for name in (method, other)]
            words = f"{TASK_NAMES[task]}, {COMPARED[group]}"
            if rates[0] != rates[1]:
                words += f", lr {' and '.join(f'{min(lr):g}' for lr in rates if lr)}"
            found.append((group, task, words))
    return found


def accuracy(row: Result) -> float:
    """Held-out pass@1."""
    return row["val_acc"]


def pass_at(k: int) -> Callable[[Result], float]:
    return lambda row: row["pass_at"][str(k)]


def every(row: Result) -> int:
    """How many steps a number of the run's curves is the mean of."""
    return row["steps"] // len(row["curve"])


def at_end(name: str) -> Callable[[Result], float]:
    """Mean of the last `WINDOW` steps; of the last 20 where a curve has only every tenth."""
    return lambda row: statistics.fmean(row["series"][name][-(WINDOW if every(row) == 1 else 2) :])


def last(name: str) -> Callable[[Result], float]:
    """Of the last 20 steps, in the groups that keep no curves."""
    return lambda row: row["last"][name]


def last_quarter(name: str) -> Callable[[Result], float]:
    return lambda row: statistics.fmean(row["series"][name][-max(1, row["steps"] // 4) :])


def whole(name: str) -> Callable[[Result], float]:
    """Mean over all steps that have one."""
    return lambda row: statistics.fmean(value for value in row["series"][name] if value is not None)


def steps_to(threshold: float) -> Callable[[Result], float]:
    """The first step at which the training accuracy, a mean of `WINDOW` steps, is at the threshold; the run's length
    where it never is."""

    def steps(row: Result) -> float:
        size = every(row)
        window = max(1, WINDOW // size)
        curve = smooth(dict(enumerate(row["curve"], 1)), window)
        return next((size * at for at, value in curve.items() if at >= window and value >= threshold), row["steps"])

    return steps


def correlation(row: Result) -> float:
    """Pearson's r over the steps of a run between Cov(log pi, A) and the change of entropy by the step's update."""
    pairs = [
        (cov, change)
        for cov, change in zip(row["series"]["cov"], row["series"]["entropy_change"], strict=True)
        if cov is not None
    ]
    xs, ys = zip(*pairs, strict=True)
    return statistics.correlation(xs, ys) if len(set(xs)) > 1 and len(set(ys)) > 1 else 0.0


def gap_by_p(row: Result) -> float:
    """Mean Cov(log pi, A) of groups with p >= 0.6 minus that of groups with p < 0.4."""
    return whole("cov_p_high")(row) - whole("cov_p_low")(row)


def slope(values: dict[float, float]) -> float:
    """Least squares."""
    xs, ys = zip(*sorted(values.items()), strict=True)
    return statistics.linear_regression(xs, ys).slope


def by_value(
    study: Study, group: str, task: str, axis: int, measure: Callable[[Result], float], cells: int
) -> dict[int, dict[float, float]]:
    """By seed and value of one of the two numbers in the methods' names, the first (axis 0) or the second: the mean
    over the other. Only seeds with all `cells` of the plane."""
    found: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in study.groups[group]:
        if row["task"] == task:
            pair = tuple(map(float, re.findall(r"[\d.]+", row["method"])))
            found[row["seed"]][pair[axis]].append(measure(row))
    return {
        seed: {value: statistics.fmean(measured) for value, measured in levels.items()}
        for seed, levels in sorted(found.items())
        if sum(map(len, levels.values())) == cells
    }


def plane_by(study: Study, task: str, axis: int, measure: Callable[[Result], float]) -> dict[int, dict[float, float]]:
    """By seed and value of beta_pos (axis 0) or beta_neg (1)."""
    return by_value(study, "plane", task, axis, measure, len(BETAS) ** 2)


def coefficient_effect(
    study: Study, task: str, axis: int, level: float, measure: Callable[[Result], float]
) -> Estimate:
    """Of a coefficient at `level` against 0, mean over the other coefficient, by seed."""
    found = by_value(study, "coefficients", task, axis, measure, len(COEFFICIENTS) ** 2)
    return Estimate.of([levels[level] - levels[0.0] for levels in found.values()])
