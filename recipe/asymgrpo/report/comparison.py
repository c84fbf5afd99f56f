"""What several training runs say beside each other: curves over seeds, tables, differences, in numbers and words."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.asymgrpo.report.runs import IDENTITY, Run

Curve = dict[int, float]

BINS = {"0_20": "0-20 %", "20_40": "20-40 %", "40_60": "40-60 %", "60_80": "60-80 %", "80_100": "80-100 %"}
WINDOW = 5
"""Steps that a training figure is averaged over, or a twentieth of the run: a step has few groups, so it jumps."""

# 97.5 % quantile of Student's t by degrees of freedom, from 1 on.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t, to 0.3 % beyond 15 degrees of freedom."""
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.5 / freedom


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over seeds (Student's t); NaN for one value."""
    if len(values) < 2:
        return math.nan
    # Not statistics.stdev: its exact fractions made up a third of a large report's time.
    mean = statistics.fmean(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return student(len(values) - 1) * deviation / math.sqrt(len(values))


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
        """Validation accuracy by evaluation set, and by reward and samples a problem where the runs differ in them."""
        found: dict[str, set[tuple[int, str]]] = defaultdict(set)
        for run in self.runs:
            kinds: dict[tuple[str, int], str] = {}
            # `acc` where the reward function returns it, as in verl's own val-core.
            for kind in ("reward", "score", "acc"):
                for key in run.series:
                    if match := re.fullmatch(rf"val-core/(.+)/{kind}/mean@(\d+)", key):
                        kinds[match[1], int(match[2])] = kind
            for (source, samples), kind in kinds.items():
                found[source].add((samples, kind))
        measures = []
        for source, forms in sorted(found.items()):
            for samples, kind in sorted(forms):
                which = f" ({kind}/mean@{samples})" if len(forms) > 1 else ""
                key = f"val-core/{source}/{kind}/mean@{samples}"
                measures.append(Measure(f"validation accuracy, {source}{which}", key, averaged=False))
        return measures

    def pass_measures(self) -> list[Measure]:
        """pass@k over the training groups, for the largest k that every run has and for the largest of each."""
        ks = [
            {int(key.rpartition("/")[2]) for key in run.series if key.startswith("asymgrpo/pass_at/")}
            for run in self.runs
        ]
        ks = [k for k in ks if k]
        common = set.intersection(*ks) if ks else set()
        shown = {max(k) for k in ks} | ({max(common)} if common else set())
        return [Measure(f"pass@{k} on training prompts", f"asymgrpo/pass_at/{k}") for k in sorted(shown)]

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
                    parts.append(f"{json.loads(value)} in {', '.join(self.named(runs, known))}")
                lines.append(f"{key} is " + "; ".join(parts))
        return lines

    def named(self, runs: Sequence[Run], among: Sequence[Run] | None = None) -> list[str]:
        """Methods that have all their runs (`among` some) in `runs`, and single runs of the others."""
        names = []
        for method, own in self.methods.items():
            inside = [run for run in own if run in runs]
            whole = inside and len(inside) == sum(among is None or run in among for run in own)
            names += [method] if whole else [run.name for run in inside]
        return names

    def missing(self) -> list[str]:
        """What cannot be shown, for which runs, and what would log it."""
        ours = "use algorithm.adv_estimator=asym_grpo"
        loss = "actor_rollout_ref.actor.policy_loss.loss_mode=entropy_modulated"
        wants = (
            ("validation accuracy", r"val-core/", "set trainer.test_freq"),
            (
                "group figures",
                r"asymgrpo/(?:kept/)?none_solved",
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
        if kept := [run.name for run in self.runs if run["asymgrpo/kept/none_solved"]]:
            what = "groups were filtered (algorithm.filter_groups), and of those that were kept the log has"
            lines.append(f"No group figures of what was sampled in {', '.join(kept)}: {what} asymgrpo/kept/....")
        families = (
            (self.accuracies(), "they were validated otherwise (data.val_files, val_kwargs.n or the reward function)"),
            (self.pass_measures(), "their groups have other sizes (actor_rollout_ref.rollout.n)"),
        )
        for family, why in families:
            having = [run for run in self.runs if any(run[measure.key] for measure in family)]
            for measure in family:
                if lacking := [run for run in having if not run[measure.key]]:
                    lines.append(f"No {measure.name} in {', '.join(self.named(lacking, having))}: {why}.")
        return lines

    def sentences(self) -> list[str]:
        """The table in one sentence a method."""
        rows = self.table()
        lines = []
        for method, runs in self.methods.items():
            own = [row for row in rows if row["method"] == method]
            last = max((row["last"]["step"] for row in own), default=None)
            parts = []
            for row in own:
                few = [f"{row['seeds']} of them"] if row["seeds"] < len(runs) else []
                early = [f"to step {row['last']['step']}"] if row["last"]["step"] != last else []
                apart = f" ({', '.join(few + early)})" if few or early else ""
                parts.append(f"{row['measure']} {row['first']['mean']:.3f} → {row['last']['mean']:.3f}{apart}")
            until = "no figure that all of them have at one step" if last is None else f"to step {last}"
            head = f"{method} ({len(runs)} run{'s' * (len(runs) > 1)}, {until})"
            lines.append(f"{head}: {'; '.join(parts)}." if parts else f"{head}.")
        return lines + self.beyond()

    def beyond(self) -> list[str]:
        """Which runs go on where the means of their method end, because another run of it does."""
        ends: dict[str, dict[str, int]] = defaultdict(dict)
        for row in self.table():
            for run in self.methods[row["method"]]:
                if (end := max(run[row["key"]], default=0)) > row["last"]["step"]:
                    ends[row["method"]][run.name] = max(end, ends[row["method"]].get(run.name, 0))
        return [
            f"{method}: its means end where one of its runs does; on went "
            + ", ".join(f"{name} to step {end}" for name, end in further.items())
            + "."
            for method, further in ends.items()
        ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


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
