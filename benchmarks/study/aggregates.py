"""Methods against GRPO over all tasks and seeds of the long runs, by the statistics of rliable (arXiv 2108.13264).

Interquartile mean and probability of improvement with stratified bootstrap intervals (seeds are resampled within their
task); a permutation test of the paired differences, corrected by Holm for the number of methods; and which difference
so many seeds could have seen. Written out, because they are few lines, and rliable brings arch, scipy and seaborn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from benchmarks.study.experiments import TASKS, Incomplete, Result
from benchmarks.study.measures import LEAST_SEEDS, Estimate, Study, holm, pass_at
from benchmarks.study.methods import LABELS, LONG_METHODS
from benchmarks.study.tables import table

GROUP, BASELINE = "long_final", "grpo"
POWER, RESAMPLES = 0.8, 10_000
Scores = Mapping[str, Mapping[int, float]]
"""By task and seed."""


def scores_of(
    study: Study,
    method: str,
    measure: Callable[[Result], float],
    tasks: Collection[str] = tuple(TASKS),
    group: str = GROUP,
) -> dict[str, dict[int, float]]:
    """Of a method's runs; every task has some.

    Raises:
        Incomplete: a task has none.
    """
    found = {task: {s: measure(row) for s, row in study.runs(group, method, task).items()} for task in tasks}
    if not all(found.values()):
        raise Incomplete(
            f"no finished run of {LABELS[method]} on each task, or not {LEAST_SEEDS} seeds: run.sh --only {group}"
        )
    return found


def iqm(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis."""
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def _resampled(values: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """(RESAMPLES, n): seeds drawn with replacement."""
    return rng.choice(np.asarray(values), (RESAMPLES, len(values)))


def _interval(value: float, draws: np.ndarray, seeds: int) -> Estimate:
    low, high = np.percentile(draws, (2.5, 97.5))
    return Estimate(value, float(low), float(high), seeds)


def interquartile_mean(scores: Scores) -> Estimate:
    """Mean over the tasks of each task's own: over all runs at once, as with many tasks, the middle half of two tasks
    would be the best runs of the harder and the worst of the easier one."""
    rng = np.random.default_rng(0)
    tasks = [list(by_seed.values()) for by_seed in scores.values()]
    draws = np.mean([iqm(_resampled(values, rng)) for values in tasks], axis=0)
    return _interval(statistics.fmean(float(iqm(np.array(values))) for values in tasks), draws, min(map(len, tasks)))


def _better(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """P(A > B) + P(A = B) / 2 over all pairs of runs; leading axes are resamples."""
    difference = a[..., :, None] - b[..., None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean((-1, -2))


def probability_of_improvement(a: Scores, b: Scores) -> Estimate:
    """That a run of A is better than one of B, mean over the tasks."""
    rng = np.random.default_rng(0)
    values, draws = [], []
    for task in a:
        one, other = list(a[task].values()), list(b[task].values())
        values.append(float(_better(np.asarray(one), np.asarray(other))))
        draws.append(_better(_resampled(one, rng), _resampled(other, rng)))
    return _interval(statistics.fmean(values), np.mean(draws, axis=0), min(map(len, a.values())))


def paired(a: Scores, b: Scores) -> list[np.ndarray]:
    """By task: A minus B for the seeds that both have."""
    return [np.array([a[task][seed] - b[task][seed] for seed in sorted(a[task].keys() & b[task].keys())]) for task in a]


def permutation_p(differences: Sequence[np.ndarray]) -> float:
    """Two-sided p of the mean over tasks of the mean paired difference: without an effect each sign is a coin."""
    rng = np.random.default_rng(0)
    observed = abs(np.mean([values.mean() for values in differences]))
    flips = [rng.choice((-1.0, 1.0), (RESAMPLES, len(values))) for values in differences]
    means = np.mean([(sign * values).mean(-1) for sign, values in zip(flips, differences, strict=True)], axis=0)
    return float((1 + (abs(means) >= observed - 1e-12).sum()) / (1 + RESAMPLES))


def compared(pairs: Sequence[tuple[Sequence[str], Sequence[float]]]) -> list[list[str]]:
    """Rows of a table, from what stands first in them and the paired differences by seed: their mean with its interval,
    the number of seeds, and p corrected for the number of these rows."""
    p_values = holm({place: permutation_p([np.array(values)]) for place, (_, values) in enumerate(pairs)})
    return [
        [*cells, Estimate.of(values).text(sign=True), str(len(values)), f"{p_values[place]:.3f}"]
        for place, (cells, values) in enumerate(pairs)
    ]


def detectable(differences: Sequence[np.ndarray], tests: int = 1) -> float:
    """The difference that a two-sided test at 5 %, one of so many, finds in 80 of 100 such studies, by the normal
    approximation and Bonferroni's correction, Holm's for the first of them."""
    normal = statistics.NormalDist()
    variance = sum(values.var(ddof=1) / len(values) for values in differences) / len(differences) ** 2
    return (normal.inv_cdf(1 - 0.025 / tests) + normal.inv_cdf(POWER)) * math.sqrt(variance)


def aggregate_table(
    study: Study,
    tasks: Collection[str] = tuple(TASKS),
    group: str = GROUP,
    methods: Collection[str] = tuple(LONG_METHODS),
    baseline: str = BASELINE,
) -> str:
    """Every method of a group that has runs on each task, against one of them in pass@1 and in pass@32.

    Raises:
        Incomplete: the baseline or all others have no runs on some task.
    """
    measures = {k: pass_at(k) for k in (1, 32)}
    reference = {k: scores_of(study, baseline, measure, tasks, group) for k, measure in measures.items()}
    found: dict[str, dict[int, dict[str, dict[int, float]]]] = {}
    for method in methods:
        try:
            found[method] = {k: scores_of(study, method, measure, tasks, group) for k, measure in measures.items()}
        except Incomplete:
            continue
    others = [method for method in found if method != baseline]
    pairs = {k: {method: paired(found[method][k], reference[k]) for method in others} for k in measures}
    others = [method for method in others if all(len(values) > 1 for values in pairs[1][method])]
    if not others:
        raise Incomplete(f"no method has two seeds beside {LABELS[baseline]}'s on each task: run.sh --only {group}")
    p_values = {k: holm({method: permutation_p(pairs[k][method]) for method in others}) for k in measures}
    rows = []
    for method in sorted([baseline, *others], key=lambda name: -interquartile_mean(found[name][1]).mean):
        cells = [LABELS[method], str(min(map(len, found[method][1].values())))]
        for k in measures:
            cells.append(interquartile_mean(found[method][k]).text())
            if method == baseline:
                cells += ["", "", ""]
                continue
            cells.append(probability_of_improvement(found[method][k], reference[k]).text(2))
            cells.append(f"{p_values[k][method]:.3f}")
            cells.append(f"{detectable(pairs[k][method], len(others)):.3f}")
        rows.append(cells)
    header = ["method", "seeds"]
    for k in measures:
        header += [f"pass@{k}, IQM", f"P(better than {LABELS[baseline]})", "p, Holm", "could see"]
    return table(header, rows)
