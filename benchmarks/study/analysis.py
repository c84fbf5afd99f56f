"""From `benchmarks/study/results/*.jsonl` to the tables and figures of docs/results.md, and README's table.

    python -m benchmarks.study.analysis [--results DIR] [--docs DIR]

Nothing is trained. The same results give the same text, to the byte.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from benchmarks.study.experiments import (
    BETAS,
    COEFFICIENTS,
    GROUPS,
    HEADLINE,
    LABELS,
    LEARNING_RATES,
    METHODS,
    TASKS,
    VERL_TASK,
    Incomplete,
    Result,
    best_lr,
    settled,
)
from benchmarks.study.runner import RESULTS, ROOT, read_results
from recipe.asymgrpo.report.comparison import smooth

RESAMPLES = 10_000
WINDOW = 5  # steps a training figure is averaged over
MIN_SEEDS = 5  # for a verdict
NEGLIGIBLE = 0.01  # of accuracy: below, a difference is none
TASK_NAMES = {"chain_sum": "sums", "countdown": "countdown"}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % bootstrap interval (percentile, seeds resampled with replacement)."""

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
        means = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
        low, high = np.percentile(means, (2.5, 97.5))
        return cls(statistics.fmean(values), float(low), float(high), len(values))

    def text(self, digits: int = 3, sign: bool = False) -> str:
        form = f"{'+' if sign else ''}.{digits}f"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


class Study:
    """The results by group, and what is read off them."""

    def __init__(self, results: Iterable[Result]):
        self.rows = list(results)
        self.settled = settled(self.rows)
        self.failed = [row for row in self.settled if row.get("error")]
        self.groups: dict[str, list[Result]] = defaultdict(list)
        for row in self.settled:
            if not row.get("error"):
                self.groups[row["group"]].append(row)

    def runs(self, group: str, method: str, task: str) -> dict[int, Result]:
        """By seed. Rows of an older definition of the method do not count."""
        return {
            row["seed"]: row
            for row in self.groups[group]
            if (row["method"], row["task"]) == (method, task)
            and tuple(row["overrides"]) == METHODS.get(method, tuple(row["overrides"]))
        }

    def estimate(self, group: str, method: str, task: str, measure: Callable[[Result], float]) -> Estimate:
        return Estimate.of([measure(row) for row in self.runs(group, method, task).values()])

    def difference(
        self, group: str, method: str, other: str, task: str, measure: Callable[[Result], float]
    ) -> Estimate:
        """`method` minus `other`, paired by seed: a seed has the same order of prompts in both."""
        a, b = self.runs(group, method, task), self.runs(group, other, task)
        return Estimate.of([measure(a[seed]) - measure(b[seed]) for seed in self.paired(group, method, other, task)])

    def paired(self, group: str, method: str, other: str, task: str) -> list[int]:
        """The seeds that both methods have."""
        return sorted(self.runs(group, method, task).keys() & self.runs(group, other, task).keys())


def accuracy(row: Result) -> float:
    """Held-out pass@1."""
    return row["val_acc"]


def pass_at(k: int) -> Callable[[Result], float]:
    return lambda row: row["pass_at"][str(k)]


def at_end(name: str) -> Callable[[Result], float]:
    """Mean of the last `WINDOW` steps."""
    return lambda row: statistics.fmean(row["series"][name][-WINDOW:])


def last_quarter(name: str) -> Callable[[Result], float]:
    return lambda row: statistics.fmean(row["series"][name][-max(1, row["steps"] // 4) :])


def whole(name: str) -> Callable[[Result], float]:
    """Mean over all steps that have one."""
    return lambda row: statistics.fmean(value for value in row["series"][name] if value is not None)


def steps_to(threshold: float) -> Callable[[Result], float]:
    """The first step at which the training accuracy, a mean of `WINDOW` steps, is at the threshold; the run's length
    where it never is."""

    def steps(row: Result) -> float:
        curve = smooth(dict(enumerate(row["curve"], 1)), WINDOW)
        return next((step for step, value in curve.items() if step >= WINDOW and value >= threshold), row["steps"])

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


@dataclass(frozen=True)
class Finding:
    """One measured quantity of a claim: where the claim would have it, and where it is."""

    what: str
    where: str
    estimate: Estimate
    expected: int  # the sign that the claim gives it; 0: no more than NEGLIGIBLE below 0
    digits: int = 3

    @property
    def verdict(self) -> str:
        low, high = self.estimate.low, self.estimate.high
        if self.estimate.seeds < MIN_SEEDS:
            return "unclear"
        if self.expected == 0:
            return "supported" if low > -NEGLIGIBLE else "not supported" if high < 0 else "unclear"
        if self.expected < 0:
            low, high = -high, -low
        return "supported" if low > 0 else "not supported" if high <= 0 else "unclear"


@dataclass(frozen=True)
class Claim:
    """A statement of the paper (or, for our loss, of ours) and what was found."""

    letter: str
    text: str
    find: Callable[[], list[Finding]]

    @cached_property
    def findings(self) -> list[Finding]:
        """Raises Incomplete where results are missing."""
        return self.find()

    @property
    def verdict(self) -> str:
        """Of all findings: what they agree on, else `mixed`."""
        verdicts = {finding.verdict for finding in self.findings}
        if "supported" in verdicts and "not supported" in verdicts:
            return "mixed"
        if verdicts == {"supported"}:
            return "supported"
        if verdicts == {"not supported"}:
            return "not supported"
        return "partly supported" if "supported" in verdicts else "unclear"


def threshold_of(study: Study, group: str, task: str) -> float:
    """What GRPO's training accuracy ends at, mean over seeds."""
    return study.estimate(group, "grpo", task, lambda row: statistics.fmean(row["curve"][-WINDOW:])).mean


COMPARED = {
    "final": "light",
    "equal": "light, equal mean \\|A\\|",
    "long": "light, five times as many steps",
    "long_equal": "light, five times as many steps, equal mean \\|A\\|",
    "verl": "verl",
}
"""Groups in which two methods are compared by seed, and how: the first has each at its own best step size."""


def comparison_places(study: Study, method: str, other: str) -> list[tuple[str, str, str]]:
    """(group, task, words) of the comparisons of two methods, wherever both have run."""
    return [
        (group, task, f"{TASK_NAMES[task]}, {how}")
        for group, how in COMPARED.items()
        for task in TASKS
        if group == "final" or study.paired(group, method, other, task)
    ]


def slope(values: dict[float, float]) -> float:
    """Least squares."""
    xs, ys = zip(*sorted(values.items()), strict=True)
    return statistics.linear_regression(xs, ys).slope


def plane_by(study: Study, task: str, axis: int, measure: Callable[[Result], float]) -> dict[int, dict[float, float]]:
    """By seed and value of beta_pos (axis 0) or beta_neg (1): the mean over the other exponent."""
    cells: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in study.groups["plane"]:
        if row["task"] == task:
            betas = tuple(map(float, re.findall(r"[\d.]+", row["method"])))
            cells[row["seed"]][betas[axis]].append(measure(row))
    return {
        seed: {beta: statistics.fmean(found) for beta, found in levels.items()}
        for seed, levels in cells.items()
        if sum(map(len, levels.values())) == len(BETAS) ** 2
    }


def coefficient_effect(
    study: Study, task: str, axis: int, level: float, measure: Callable[[Result], float]
) -> Estimate:
    """Of a coefficient at `level` against 0, mean over the other coefficient, by seed."""
    cells: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in study.groups["coefficients"]:
        if row["task"] == task:
            pair = tuple(map(float, re.findall(r"[\d.]+", row["method"])))
            cells[row["seed"]][pair[axis]].append(measure(row))
    return Estimate.of(
        [
            statistics.fmean(levels[level]) - statistics.fmean(levels[0.0])
            for _, levels in sorted(cells.items())
            if sum(map(len, levels.values())) == len(COEFFICIENTS) ** 2
        ]
    )


def claims(study: Study) -> list[Claim]:
    """All claims, and how to find what the results say of them."""

    def differences(method: str, other: str, measure: Callable[[Result], float], what: str, sign: int) -> list[Finding]:
        text = f"{LABELS[method]} minus {LABELS[other]}, {what}"
        return [
            Finding(text, where, study.difference(g, method, other, task, measure), sign)
            for g, task, where in comparison_places(study, method, other)
        ]

    def steps_saved() -> list[Finding]:
        return [
            Finding(
                f"steps until GRPO's final training accuracy ({threshold_of(study, group, task):.2f}), "
                "AsymGRPO minus GRPO",
                where,
                study.difference(group, "asymgrpo", "grpo", task, steps_to(threshold_of(study, group, task))),
                -1,
                1,
            )
            for group, task, where in comparison_places(study, "asymgrpo", "grpo")
        ]

    def on_tasks(what: str, of: Callable[[str], Estimate], sign: int, digits: int = 3) -> list[Finding]:
        return [Finding(what, f"{TASK_NAMES[task]}, light", of(task), sign, digits) for task in TASKS]

    def slopes(axis: int, name: str, reduce: Callable[[str], Callable[[Result], float]]) -> Callable[[str], Estimate]:
        return lambda task: Estimate.of(
            [slope(levels) for _, levels in sorted(plane_by(study, task, axis, reduce(name)).items())]
        )

    def step_of(high: float, low: float, measure: Callable[[Result], float]) -> Callable[[str], Estimate]:
        return lambda task: Estimate.of(
            [levels[high] - levels[low] for _, levels in sorted(plane_by(study, task, 1, measure).items())]
        )

    def coefficient(axis: int, level: float, measure: Callable[[Result], float]) -> Callable[[str], Estimate]:
        return lambda task: coefficient_effect(study, task, axis, level, measure)

    increment = whole("positive_increment")
    entropy = at_end("entropy")
    own = partial(study.estimate, "final")
    return [
        Claim(
            "a",
            "AsymGRPO (0.9, 0.4) beats GRPO in final accuracy or in steps to a threshold",
            lambda: differences("asymgrpo", "grpo", accuracy, "pass@1", 1) + steps_saved(),
        ),
        Claim(
            "b",
            "clip-higher adds to AsymGRPO",
            lambda: differences("asymgrpo_clip_higher", "asymgrpo", accuracy, "pass@1", 1),
        ),
        Claim(
            "c",
            "Pos-only keeps more entropy than REINFORCE at higher accuracy",
            lambda: (
                differences("pos_only", "reinforce", entropy, "entropy at the end", 1)
                + differences("pos_only", "reinforce", accuracy, "pass@1", 1)
            ),
        ),
        Claim(
            "d",
            "Neg-only lowers entropy at higher accuracy than REINFORCE",
            lambda: (
                differences("neg_only", "reinforce", entropy, "entropy at the end", -1)
                + differences("neg_only", "reinforce", accuracy, "pass@1", 1)
            ),
        ),
        Claim(
            "e",
            "EntDecrease and EntIncrease hurt",
            lambda: (
                differences("ent_decrease", "grpo", accuracy, "pass@1", -1)
                + differences("ent_increase", "grpo", accuracy, "pass@1", -1)
            ),
        ),
        Claim(
            "f",
            "a larger beta_pos lowers the share of prompts that no rollout solves",
            lambda: on_tasks(
                "slope of the none-solved share in the last quarter over beta_pos",
                slopes(0, "none_solved", last_quarter),
                -1,
            ),
        ),
        Claim(
            "g",
            "a larger beta_neg raises the log-probability increment of positive rollouts, up to a point (0.75 hurts)",
            lambda: (
                on_tasks("increment of a step, beta_neg 0.5 minus 0", step_of(0.5, 0.0, increment), 1, 5)
                + on_tasks("increment of a step, beta_neg 0.75 minus 0.5", step_of(0.75, 0.5, increment), -1, 5)
                + on_tasks("pass@1, beta_neg 0.75 minus 0.5", step_of(0.75, 0.5, accuracy), -1)
            ),
        ),
        Claim(
            "h",
            "the entropy changes by -eta Cov(log pi, A), and the covariance grows with p",
            lambda: (
                on_tasks(
                    "GRPO: correlation over steps of Cov and entropy change",
                    lambda task: own("grpo", task, correlation),
                    -1,
                )
                + on_tasks("REINFORCE: the same", lambda task: own("reinforce", task, correlation), -1)
                + on_tasks(
                    "REINFORCE: Cov at p >= 0.6 minus Cov at p < 0.4", lambda task: own("reinforce", task, gap_by_p), 1
                )
            ),
        ),
        Claim(
            "i",
            "our loss: informative_coef raises entropy at equal accuracy, spurious_coef lowers it and does not hurt",
            lambda: (
                on_tasks("entropy, informative_coef 0.3 minus 0", coefficient(0, 0.3, entropy), 1)
                + on_tasks("pass@1, informative_coef 0.3 minus 0", coefficient(0, 0.3, accuracy), 0)
                + on_tasks("entropy, spurious_coef 0.3 minus 0", coefficient(1, 0.3, entropy), -1)
                + on_tasks("pass@1, spurious_coef 0.3 minus 0", coefficient(1, 0.3, accuracy), 0)
            ),
        ),
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def claims_table(study: Study) -> str:
    rows = []
    for claim in claims(study):
        title = f"**({claim.letter})** {claim.text}"
        try:
            rows.append([title, "", "", "", f"**{claim.verdict}**"])
        except Incomplete as error:
            rows.append([title, "", "", "", f"*not complete: {error}*"])
            continue
        for finding in claim.findings:
            estimate = finding.estimate.text(finding.digits, sign=True)
            rows.append([finding.what, finding.where, estimate, str(finding.estimate.seeds), finding.verdict])
    return table(("claim", "task, engine", "mean [95 % interval]", "seeds", "verdict"), rows)


def methods_table(study: Study, group: str, task: str) -> str:
    """Every method of a group: at its own step size, or (`equal`) at GRPO's and GRPO's mean |A|."""
    found = []
    for method in METHODS:
        runs = study.runs(group, method, task)
        failed = sum((r["group"], r["method"], r["task"]) == (group, method, task) for r in study.failed)
        if not runs:
            if failed:
                found.append((-1.0, [LABELS[method], "", f"0, {failed} failed", "", "", "", "", ""]))
            continue
        one = next(iter(runs.values()))

        def cell(measure: Callable[[Result], float], method: str = method) -> str:
            return study.estimate(group, method, task, measure).text()

        seeds = str(len(runs)) + (f", {failed} failed" if failed else "")
        cells = [LABELS[method], f"{one['lr']:g}", seeds, *(cell(pass_at(k)) for k in (1, 8, 32))]
        found.append(
            (
                statistics.fmean(map(accuracy, runs.values())),
                [*cells, cell(at_end("entropy")), cell(at_end("none_solved"))],
            )
        )
    header = ("method", "lr", "seeds", "pass@1", "pass@8", "pass@32", "entropy *", "none solved *")
    return table(header, [row for _, row in sorted(found, key=lambda item: -item[0])])


def grid_table(study: Study, task: str) -> str:
    """Mean accuracy on the selection prompts by step size; the chosen one is bold."""
    rows = []
    for method in METHODS:
        best = best_lr(study.rows, method, task)
        cells = []
        for lr in LEARNING_RATES:
            values = [
                row["val_acc"] or 0.0
                for row in study.settled
                if (row["group"], row["method"], row["task"], row["lr"]) == ("grid", method, task, lr)
                and tuple(row["overrides"]) == METHODS[method]
            ]
            text = f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"
            cells.append(f"**{text}**" if lr == best else text)
        rows.append([LABELS[method], *cells])
    return table(("method", *(f"lr {lr:g}" for lr in LEARNING_RATES)), rows)


def coefficients_table(study: Study, task: str) -> str:
    """Accuracy and entropy on the selection prompts by the two coefficients of our loss."""
    rows = []
    for informative in COEFFICIENTS:
        cells = [f"{informative:g}"]
        for spurious in COEFFICIENTS:
            runs = study.runs("coefficients", f"modulated({informative:g},{spurious:g})", task).values()
            if len(runs) < 2:
                raise Incomplete("the runs of our loss's coefficients are not there: run.sh --only coefficients")
            values, entropies = [accuracy(row) for row in runs], [at_end("entropy")(row) for row in runs]
            cells.append(
                f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}, H {statistics.fmean(entropies):.3f}"
            )
        rows.append(cells)
    return table(("informative \\ spurious", *(f"{spurious:g}" for spurious in COEFFICIENTS)), rows)


def agreement_table(study: Study) -> str:
    """verl against the light engine, for every method that ran in both at the same step size."""
    rows = []
    for method in HEADLINE:
        verl, light = (study.runs(group, method, VERL_TASK) for group in ("verl", "final"))
        if not verl or not light:
            continue
        for name, measure in (("pass@1", accuracy), ("entropy at the end", at_end("entropy"))):
            a, b = [measure(row) for row in verl.values()], [measure(row) for row in light.values()]
            gap = statistics.fmean(a) - statistics.fmean(b)
            spread = math.sqrt(statistics.variance(a) + statistics.variance(b)) if min(len(a), len(b)) > 1 else math.nan
            rows.append(
                [
                    LABELS[method],
                    name,
                    f"{statistics.fmean(a):.3f} ({len(a)})",
                    f"{statistics.fmean(b):.3f} ({len(b)})",
                    f"{gap:+.3f}",
                    "" if math.isnan(spread) else f"{spread:.3f}",
                    "" if math.isnan(spread) else "yes" if abs(gap) <= 2 * spread else "no",
                ]
            )
    return table(("method", "", "verl (seeds)", "light (seeds)", "difference", "spread of two seeds", "within 2"), rows)


def why_table(study: Study, group: str) -> str:
    """AsymGRPO minus GRPO in what the diagnostics of a group's trainings show."""
    measures: dict[str, Callable[[Result], float]] = {
        "held-out pass@1": accuracy,
        "held-out pass@8": pass_at(8),
        "held-out pass@32": pass_at(32),
        "prompts that no rollout solves, mean of all steps": whole("none_solved"),
        "prompts that all solve, mean of all steps": whole("all_solved"),
        "mean \\|A\\| a token, mean of all steps": whole("mean_abs_adv"),
        "Cov(log pi, A) of groups with p < 0.4": whole("cov_p_low"),
        "entropy at the end": at_end("entropy"),
    }
    rows = []
    for name, measure in measures.items():
        cells = [name]
        for task in TASKS:
            cells.append(study.estimate(group, "grpo", task, measure).text())
            cells.append(study.difference(group, "asymgrpo", "grpo", task, measure).text(sign=True))
        rows.append(cells)
    columns = (cell for task in TASKS for cell in (f"{TASK_NAMES[task]}: GRPO", "AsymGRPO minus GRPO"))
    return table(("", *columns), rows)


def headline_table(study: Study) -> str:
    """README's: AsymGRPO against GRPO on countdown, in the long runs."""
    measures: dict[str, Callable[[Result], float]] = {
        "pass@1": accuracy,
        "pass@8": pass_at(8),
        "pass@32": pass_at(32),
        "entropy at the end, nats a token": at_end("entropy"),
    }
    rows = [
        [
            name,
            *(f"{study.estimate('long', method, 'countdown', measure).mean:.3f}" for method in ("grpo", "asymgrpo")),
            *(
                study.difference(group, "asymgrpo", "grpo", "countdown", measure).text(sign=True)
                for group in ("long", "long_equal")
            ),
        ]
        for name, measure in measures.items()
    ]
    return table(("", "GRPO", "AsymGRPO", "difference", "difference at equal mean \\|A\\|"), rows)


def reruns_table(study: Study) -> str:
    rows = [
        [
            row["engine"],
            row["of_group"],
            LABELS.get(row["method"], row["method"]),
            TASK_NAMES[row["task"]],
            str(row["seed"]),
            f"{row['first_val_acc']:.4f}",
            f"{row['val_acc']:.4f}",
            f"{row['band'][0]:.4f} to {row['band'][1]:.4f}",
            "inside" if row["inside"] else "**outside**",
        ]
        for row in study.groups["rerun"]
    ]
    return table(("engine", "group", "method", "task", "seed", "first", "again", "band (± 2 sd)", ""), rows)


def language_model_table(study: Study) -> str:
    rows = []
    for row in sorted(study.groups["smollm2"], key=lambda row: (row["method"], row["seed"])):
        held_out = row["held_out"]
        rows.append(
            [
                LABELS[row["method"]],
                str(row["seed"]),
                *(f"{held_out[str(step)]:.3f}" for step in (0, 10, 20, 30)),
                f"{row['series']['entropy'][0]:.3f} → {at_end('entropy')(row):.3f}",
                f"{statistics.fmean(row['series']['none_solved'][:WINDOW]):.3f} → {at_end('none_solved')(row):.3f}",
            ]
        )
    steps = tuple(f"step {step}" for step in (0, 10, 20, 30))
    return table(("method", "seed", *steps, "entropy *", "none solved *"), rows)


def runs_table(study: Study) -> str:
    """How many runs each group has, of how many, what they cost, and which failed why."""
    rows, whole = [], True
    for group in (*(name for name in GROUPS if name != "smoke"), "rerun"):
        every = [row for row in study.rows if row["group"] == group]
        last = [row for row in study.settled if row["group"] == group]
        engines = ", ".join(sorted({row["engine"] for row in every}))
        failed = [row for row in every if row.get("error")]
        causes = "; ".join(
            f"{LABELS.get(row['method'], row['method'])} {row['task']} seed {row['seed']}: "
            f"{' '.join(row['error'].split())}{'' if row in last else ' (run again)'}"
            for row in failed
        )
        runs, planned = str(len(last)), ""
        if group in GROUPS:
            try:
                hashes = {experiment.config_hash for experiment in GROUPS[group](study.rows)}
            except Incomplete:
                planned, whole = "?", False
            else:
                current = sum(row["config_hash"] in hashes for row in last)
                planned, whole = str(len(hashes)), whole and current == len(hashes)
                # Nothing is dropped: runs of a method that was defined otherwise stay in the results.
                runs = f"{current}" + (
                    f" + {len(last) - current} of an earlier definition" if current < len(last) else ""
                )
        hours = sum(row["seconds"] for row in every) / 3600
        rows.append([group, engines, runs, planned, f"{hours:.1f}", f"{len(failed)} {causes}".strip()])
    shown = table(("group", "engine", "runs", "planned", "hours (sum over runs)", "failed, and why"), rows)
    return (
        shown if whole else f"**Not finished**: a verdict below may change with the runs that are missing.\n\n{shown}"
    )


DRAWN = {
    "methods": ("final", "Held-out pass@1, pass@8 and pass@32 of every method"),
    "curves": ("final", "Training accuracy, none-solved share and entropy"),
    "plane": ("plane", "Accuracy, pass@8, none-solved share and entropy over beta_pos and beta_neg"),
    "entropy_change": ("final", "Change of entropy by a step against the covariance before it"),
    "long": ("long", "Training accuracy, none-solved share and entropy over long runs"),
    "language_model": ("smollm2", "SmolLM2-135M: held-out accuracy, training accuracy and entropy"),
    "step_sizes": ("grid", "Accuracy by learning rate"),
}
"""Of each figure (benchmarks/study/figures.py): the group of runs that it needs, and what it shows."""


def figure(study: Study, name: str) -> str:
    group, shows = DRAWN[name]
    if not study.groups[group]:
        raise Incomplete("no finished run")
    return f"![{shows}](results/{name}.png)"


BLOCKS: dict[str, Callable[[Study], str]] = {
    "runs": runs_table,
    "claims": claims_table,
    "headline": headline_table,
    **{f"why-{group}": partial(why_table, group=group) for group in ("final", "equal", "long", "long_equal")},
    **{f"final-{task}": partial(methods_table, group="final", task=task) for task in TASKS},
    "verl": partial(methods_table, group="verl", task=VERL_TASK),
    **{f"equal-{task}": partial(methods_table, group="equal", task=task) for task in TASKS},
    **{f"grid-{task}": partial(grid_table, task=task) for task in TASKS},
    **{f"coefficients-{task}": partial(coefficients_table, task=task) for task in TASKS},
    "agreement": agreement_table,
    "long": lambda study: "\n\n".join(f"{TASK_NAMES[task]}:\n\n{methods_table(study, 'long', task)}" for task in TASKS),
    "language-model": language_model_table,
    "reruns": reruns_table,
    **{f"figure-{name}": partial(figure, name=name) for name in DRAWN},
}
"""What stands between `<!-- begin NAME -->` and `<!-- end NAME -->` in docs/results.md and README.md."""


def fill(text: str, study: Study) -> str:
    """`text` with its blocks made anew.

    Raises:
        ValueError: a block that is not known, or without an end.
    """
    for name in re.findall(r"<!-- begin (\S+) -->", text):
        if name not in BLOCKS:
            raise ValueError(f"<!-- begin {name} -->: unknown block; one of {', '.join(BLOCKS)}")
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{begin} has no {end}")
        try:
            block = BLOCKS[name](study)
        except Incomplete as error:
            block = f"*Not complete: {error}.*"
        text = f"{before}{begin}\n\n{block}\n\n{end}{after}"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m benchmarks.study.analysis")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", help="folder of results.md and results/ (figures), below README"
    )
    options = parser.parse_args(argv)
    try:
        study = Study(read_results(options.results))
        for page in (options.docs / "results.md", options.docs.parent / "README.md"):
            page.write_text(fill(page.read_text(encoding="utf-8"), study), encoding="utf-8")
        from benchmarks.study import figures

        for path in figures.draw(study, options.docs / "results"):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
