"""The paper's claims, and ours of our loss: what each would have measured, and what was."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from benchmarks.study.control import SAME_STEP_SIZES, TASK
from benchmarks.study.experiments import OTHER_TASKS, TASKS, Result
from benchmarks.study.measures import (
    COMPARED,
    TASK_NAMES,
    WINDOW,
    Estimate,
    Study,
    accuracy,
    at_end,
    coefficient_effect,
    comparison_places,
    correlation,
    every,
    gap_by_p,
    holm,
    last_quarter,
    pass_at,
    plane_by,
    slope,
    steps_to,
    whole,
)
from benchmarks.study.methods import LABELS

MIN_SEEDS = 5  # for a verdict
NEGLIGIBLE = 0.01  # of accuracy: below, a difference is none


@dataclass(frozen=True)
class Finding:
    """One measured quantity of a claim: where the claim would have it, and where it is."""

    what: str
    where: str
    estimate: Estimate
    expected: int  # the sign that the claim gives it; 0: no more than NEGLIGIBLE below 0
    digits: int = 3

    @property
    def p(self) -> float:
        """Two-sided, of no difference; of a loss of NEGLIGIBLE where the claim says that there is none."""
        return self.estimate.p(-NEGLIGIBLE if self.expected == 0 else 0.0)

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
    def p_values(self) -> list[float]:
        """Of the findings, corrected for their number by Holm."""
        return list(holm(dict(enumerate(finding.p for finding in self.findings))).values())

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
        if "not supported" in verdicts:
            return "partly not supported"
        return "partly supported" if "supported" in verdicts else "unclear"


def threshold_of(study: Study, group: str, task: str) -> float:
    """What GRPO's training accuracy ends at, mean over seeds."""
    return study.estimate(
        group, "grpo", task, lambda row: statistics.fmean(row["curve"][-(WINDOW if every(row) == 1 else 2) :])
    ).mean


def at_the_same_step_size(study: Study) -> list[Finding]:
    """AsymGRPO minus GRPO at the best step size of either, in the long runs on countdown."""
    group, task = "control_robust", TASK
    return [
        Finding(
            f"AsymGRPO minus GRPO, pass@{k}",
            f"{TASK_NAMES[task]}, {COMPARED['long_final']}, both at lr {lr:g}",
            study.difference(group, "asymgrpo", "grpo", task, pass_at(k), lr),
            1,
        )
        for lr, k in itertools.product(SAME_STEP_SIZES, (1, 32))
        if study.paired(group, "asymgrpo", "grpo", task, lr)
    ]


SYNERGY = {
    "asymgrpo_entropy_bonus_10": "grpo_entropy_bonus_10",
    "asymgrpo_clip_higher": "grpo_clip_higher",
    "modulated_0.3": "grpo_modulated_0.3",
}
"""AsymGRPO with a regulariser, and GRPO with it."""


def synergy(study: Study, together: str, alone: str, k: int) -> list[Finding]:
    """Both together minus the better of AsymGRPO and the regulariser, in the long runs; which is the better is chosen
    by the same runs, which is to the disadvantage of the claim.

    Raises:
        Incomplete: no runs of one of them.
    """
    findings = []
    group, measure = "long_final", pass_at(k)
    others = [task for task in OTHER_TASKS if all(study.runs(group, m, task) for m in ("asymgrpo", together, alone))]
    for task in (*reversed(TASKS), *others):
        better = max(("asymgrpo", alone), key=lambda name: study.estimate(group, name, task, measure).mean)
        estimate = study.difference(group, together, better, task, measure)
        where = f"{TASK_NAMES[task]}, {COMPARED[group]}"
        findings.append(Finding(f"{LABELS[together]} minus {LABELS[better]}, pass@{k}", where, estimate, 1))
    return findings


def claims(study: Study) -> list[Claim]:
    """All claims, and how to find what the results say of them."""

    def differences(
        method: str, other: str, measure: Callable[[Result], float], what: str, sign: int, only: str | None = None
    ) -> list[Finding]:
        text = f"{LABELS[method]} minus {LABELS[other]}, {what}"
        return [
            Finding(text, where, study.difference(g, method, other, task, measure), sign)
            for g, task, where in comparison_places(study, method, other)
            if only in (None, g)
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

    in_long_runs = partial(differences, only="long_final")
    increment = whole("positive_increment")
    entropy = at_end("entropy")
    own = partial(study.estimate, "final")
    return [
        Claim(
            "a",
            "AsymGRPO (0.9, 0.4) beats GRPO in final accuracy or in steps to a threshold",
            lambda: (
                differences("asymgrpo", "grpo", accuracy, "pass@1", 1) + at_the_same_step_size(study) + steps_saved()
            ),
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
            "the entropy changes by -eta Cov(log pi, A), and the covariance is larger at p >= 0.6 than below 0.4",
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
                + in_long_runs("modulated_0.3", "asymgrpo", entropy, "entropy at the end", 1)
                + in_long_runs("modulated_0.3", "asymgrpo", accuracy, "pass@1", 0)
                + in_long_runs("modulated_0.3_0.1", "modulated_0.3", entropy, "entropy at the end", -1)
                + in_long_runs("modulated_0.3_0.1", "modulated_0.3", accuracy, "pass@1", 0)
            ),
        ),
        Claim(
            "j",
            "AsymGRPO works alongside entropy regularisation: both together beat the better of the two",
            lambda: [
                finding
                for together, alone in SYNERGY.items()
                for k in (1, 32)
                for finding in synergy(study, together, alone, k)
            ],
        ),
    ]
