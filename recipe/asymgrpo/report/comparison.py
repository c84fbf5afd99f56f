"""What several training runs say beside each other: curves over seeds, tables, differences, in numbers and words."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from recipe.asymgrpo.pass_at_k import Dump, ks_up_to, mean_pass_at_k
from recipe.asymgrpo.report.runs import IDENTITY, Run

Curve = dict[int, float]

BINS = {"0_20": "0-20 %", "20_40": "20-40 %", "40_60": "40-60 %", "60_80": "60-80 %", "80_100": "80-100 %"}
WINDOW = 5
"""Steps that a training figure is averaged over, or a twentieth of the run: a step has few groups, so it jumps."""

# 97.5 % quantile of Student's t by degrees of freedom, from 1 on.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over seeds (Student's t); NaN for one value."""
    if len(values) < 2:
        return math.nan
    quantile = STUDENT[len(values) - 2] if len(values) <= len(STUDENT) else 1.96 + 2.5 / (len(values) - 1)
    # Not statistics.stdev: its exact fractions made up a third of a large report's time.
    mean = statistics.fmean(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return quantile * deviation / math.sqrt(len(values))


def smooth(curve: Curve, window: int) -> Curve:
    """Mean over the last `window` values (fewer at the start)."""
    steps = sorted(curve)
    values = [curve[step] for step in steps]
    return {step: statistics.fmean(values[max(0, i + 1 - window) : i + 1]) for i, step in enumerate(steps)}


@dataclass
class Band:
    """A curve over seeds: by step, the mean and half the width of its 95 % interval."""

    mean: Curve
    half: Curve
    seeds: int


def band(curves: Sequence[Curve]) -> Band:
    """Of the steps that all curves have, so that no seed joins or leaves on the way."""
    curves = [curve for curve in curves if curve]
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    values = {step: [curve[step] for curve in curves] for step in common}
    return Band(
        {step: statistics.fmean(at) for step, at in values.items()},
        {step: interval(at) for step, at in values.items()},
        len(curves),
    )


@dataclass(frozen=True)
class Measure:
    """A quantity that has a row in the table and lines in a panel."""

    name: str
    key: str
    unit: str = ""
    best: Callable = max
    averaged: bool = True

    def curves(self, runs: Sequence[Run], window: int) -> list[Curve]:
        return [smooth(run[self.key], window) if self.averaged else run[self.key] for run in runs if run[self.key]]


ENTROPY = Measure("entropy", "actor/entropy", "nats a token")
NONE_SOLVED = Measure("prompts that no rollout solves", "asymgrpo/none_solved", "share", min)
TRAIN_ACCURACY = Measure("accuracy on training prompts", "asymgrpo/group_accuracy")


@dataclass
class Report:
    """What the page says, before it is drawn."""

    methods: dict[str, list[Run]]
    window: int

    @property
    def runs(self) -> list[Run]:
        return [run for runs in self.methods.values() for run in runs]

    def accuracies(self) -> list[Measure]:
        """Validation accuracy by evaluation set."""
        found: dict[str, str] = {}
        # `acc` where the reward function returns it, as in verl's own val-core.
        for kind in ("reward", "score", "acc"):
            for run in self.runs:
                for key in run.series:
                    if match := re.fullmatch(rf"val-core/(.+)/{kind}/mean@\d+", key):
                        found[match[1]] = key
        return [Measure(f"validation accuracy, {source}", key, averaged=False) for source, key in sorted(found.items())]

    def pass_measures(self) -> list[Measure]:
        """pass@k over the training groups for the largest k that every run has."""
        ks = [
            {int(key.rpartition("/")[2]) for key in run.series if key.startswith("asymgrpo/pass_at/")}
            for run in self.runs
        ]
        ks = [k for k in ks if k]
        common = set.intersection(*ks) if ks else set()
        return [Measure(f"pass@{max(common)} on training prompts", f"asymgrpo/pass_at/{max(common)}")] if common else []

    def measures(self) -> list[Measure]:
        rows = [*self.accuracies(), TRAIN_ACCURACY, *self.pass_measures(), NONE_SOLVED, ENTROPY]
        return [row for row in rows if any(run[row.key] for run in self.runs)]

    def table(self) -> list[dict[str, Any]]:
        """First, best and last value of each measure and method: mean over seeds, half the 95 % interval, step."""
        rows = []
        for measure in self.measures():
            for method, runs in self.methods.items():
                over_seeds = band(measure.curves(runs, self.window))
                steps = sorted(over_seeds.mean)
                if not steps:
                    continue
                # The first average that covers a whole window is the honest start of an averaged curve.
                first = steps[min(self.window, len(steps)) - 1] if measure.averaged else steps[0]
                later = [step for step in steps if step >= first]
                chosen = {
                    "first": first,
                    "best": measure.best(later, key=over_seeds.mean.__getitem__),
                    "last": steps[-1],
                }
                cells = {
                    name: {"step": step, "mean": over_seeds.mean[step], "half": _number(over_seeds.half[step])}
                    for name, step in chosen.items()
                }
                rows.append(
                    {"measure": measure.name, "key": measure.key, "method": method, "seeds": over_seeds.seeds} | cells
                )
        return rows

    def differences(self) -> list[str]:
        """How the methods' configurations differ, in words."""
        known = [run for run in self.runs if run.config]
        lines = []
        if len(known) < len(self.runs):
            names = ", ".join(run.name for run in self.runs if not run.config)
            lines.append(f"No configuration was found for {names}; Hydra saves it in .hydra/config.yaml of a run.")
        keys = {key for run in known for key in run.config or {} if not IDENTITY.search(key)}
        for key in sorted(keys):
            values: dict[str, list[Run]] = defaultdict(list)
            for run in known:
                values[json.dumps((run.config or {}).get(key, "(not set)"), default=str)].append(run)
            if len(values) > 1:
                parts = []
                for value, runs in values.items():
                    parts.append(f"{json.loads(value)} in {', '.join(self._named(runs))}")
                lines.append(f"{key} is " + "; ".join(parts))
        return lines

    def _named(self, runs: list[Run]) -> list[str]:
        """Methods that are in `runs` with all their seeds, single runs of the others."""
        names = []
        for method, own in self.methods.items():
            inside = [run for run in own if run in runs]
            names += (
                [method] if len(inside) == len([r for r in own if r.config]) and inside else [r.name for r in inside]
            )
        return names

    def missing(self) -> list[str]:
        """What cannot be shown, for which runs, and what would log it."""
        ours = "use algorithm.adv_estimator=asym_grpo"
        loss = "actor_rollout_ref.actor.policy_loss.loss_mode=entropy_modulated"
        wants = (
            ("validation accuracy", r"val-core/", "set trainer.test_freq"),
            (
                "group figures",
                r"asymgrpo/none_solved",
                f"{ours} (its preset grpo is GRPO), or trainer.rollout_data_dir",
            ),
            ("advantages by sign", r"asymgrpo/adv_mass_positive", ours),
            ("covariance by p", r"asymgrpo/cov_by_p/", f"{ours}; it starts with the second step of a process"),
            ("figures by sign", r"actor/positive/", f"use {loss}; without coefficients it is vanilla"),
            ("entropy", r"actor/entropy$", "verl logs it in training steps"),
        )
        lines = []
        for what, pattern, remedy in wants:
            without = [run.name for run in self.runs if not any(re.match(pattern, key) for key in run.series)]
            if without:
                names = "all runs" if len(without) == len(self.runs) else ", ".join(without)
                lines.append(f"No {what} in {names}: {remedy}.")
        return lines

    def sentences(self) -> list[str]:
        """The table in one sentence a method."""
        rows = self.table()
        lines = []
        for method, runs in self.methods.items():
            parts = []
            for row in rows:
                if row["method"] == method:
                    parts.append(f"{row['measure']} {row['first']['mean']:.3f} → {row['last']['mean']:.3f}")
            steps = max((run.steps[-1] for run in runs if run.steps), default=0)
            lines.append(f"{method} ({len(runs)} run{'s' * (len(runs) > 1)}, {steps} steps): " + "; ".join(parts) + ".")
        return lines


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def entropy_prediction(runs: Sequence[Run], window: int) -> tuple[dict[str, tuple[Curve, Curve]], float, float]:
    """Entropy change since a run's first covariance: measured, and predicted by dH = -eta * Cov(log pi, A).

    One constant is fitted to all runs by least squares (eta of the identity belongs to a tabular softmax; a network
    under Adam has another), times the learning rate of the step where it is logged.

    Returns:
        By run: (measured, predicted) change by step; the constant; Pearson's r of measured and predicted change from
        one mean of `window` steps to the next (NaN where there are fewer than three).
    """
    measured: dict[str, Curve] = {}
    exposed: dict[str, Curve] = {}
    with_rates = all(run["actor/lr"] for run in runs)
    for run in runs:
        covariance, entropy = run["asymgrpo/cov_logprob_adv"], run["actor/entropy"]
        steps = [step for step in sorted(covariance) if step in entropy and step + 1 in entropy]
        if not steps:
            continue
        total = 0.0
        measured[run.name], exposed[run.name] = {steps[0]: 0.0}, {steps[0]: 0.0}
        for step in steps:
            total += covariance[step] * (run["actor/lr"].get(step, 0.0) if with_rates else 1.0)
            measured[run.name][step + 1] = entropy[step + 1] - entropy[steps[0]]
            exposed[run.name][step + 1] = -total
    pairs = [(exposed[name][step], measured[name][step]) for name in exposed for step in exposed[name]]
    square = sum(x * x for x, _ in pairs)
    constant = sum(x * y for x, y in pairs) / square if square else 0.0
    predicted = {name: {step: constant * x for step, x in curve.items()} for name, curve in exposed.items()}
    changes = [
        pair
        for name in measured
        for pair in zip(_changes(predicted[name], window), _changes(measured[name], window), strict=True)
    ]
    return {name: (measured[name], predicted[name]) for name in measured}, constant, _pearson(changes)


def _changes(curve: Curve, window: int) -> list[float]:
    """From the mean of each `window` values to the mean of the next."""
    values = [curve[step] for step in sorted(curve)]
    means = [statistics.fmean(values[i : i + window]) for i in range(0, len(values) - window + 1, window)]
    return [after - before for before, after in pairwise(means)]


def _pearson(pairs: Sequence[tuple[float, float]]) -> float:
    if len(pairs) < 3:
        return math.nan
    xs, ys = zip(*pairs, strict=True)
    try:
        return statistics.correlation(xs, ys)
    except statistics.StatisticsError:  # one of them is constant
        return math.nan


def covariance_by_p(run: Run) -> list[float | None]:
    """Mean over a run's groups of their covariance, by bin of p; None for a bin without a group."""
    means: list[float | None] = []
    for name in BINS:
        covariance, share, groups = (
            run[f"asymgrpo/cov_by_p/{name}"],
            run[f"asymgrpo/p_hist/{name}"],
            run["asymgrpo/groups"],
        )
        weights = {step: share.get(step, 0.0) * groups.get(step, 0.0) for step in covariance}
        weight = sum(weights.values())
        means.append(sum(covariance[step] * weights[step] for step in covariance) / weight if weight else None)
    return means


def build(runs: Sequence[Run], window: int | None = None) -> Report:
    """Group runs by method, in the order given.

    Args:
        window: steps to average training figures over; None: 5, or a twentieth of the longest run if that is more.
    """
    methods: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        methods[run.method].append(run)
    longest = max((len(run.steps) for run in runs), default=0)
    return Report(dict(methods), window or max(WINDOW, longest // 20))


def held_out_pass_at_k(run: Run) -> dict[int, Curve]:
    """From verl's validation dumps: by step, pass@k by k; of the first and the last dump."""
    found: dict[int, Curve] = {}
    for step in sorted({min(run.validation), max(run.validation)}) if run.validation else ():
        try:
            dump = Dump(run.validation[step])
        except (OSError, ValueError) as error:
            run.notes.append(str(error))
            continue
        found[step] = {k: mean_pass_at_k(dump.groups, k) or 0.0 for k in ks_up_to(dump.samples)}
    return found


def training_pass_at_k(run: Run, window: int) -> dict[int, Curve]:
    """From the training groups: mean over the first and the last `window` steps."""
    curves = {
        int(key.rpartition("/")[2]): curve for key, curve in run.series.items() if key.startswith("asymgrpo/pass_at/")
    }
    ends: dict[int, Curve] = {}
    for k, curve in sorted(curves.items()):
        steps = sorted(curve)
        for end, chosen in ((steps[0], steps[:window]), (steps[-1], steps[-window:])):
            ends.setdefault(end, {})[k] = statistics.fmean(curve[s] for s in chosen)
    return ends
