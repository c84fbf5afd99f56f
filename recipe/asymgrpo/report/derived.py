"""What no log has as a curve: pass@k over k, covariance by difficulty, the predicted change of entropy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from itertools import chain, pairwise

from recipe.asymgrpo.pass_at_k import Dump, ks_up_to, mean_pass_at_k
from recipe.asymgrpo.report.comparison import BINS, Curve
from recipe.asymgrpo.report.runs import Run


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


def held_out_pass_at_k(run: Run, steps: Collection[int]) -> dict[int, Curve]:
    """From verl's validation dumps: by step, pass@k by k; of the first and the last of `steps`."""
    found: dict[int, Curve] = {}
    for step in sorted({min(steps), max(steps)}) if steps else ():
        try:
            dump = Dump(run.validation[step])
        except (OSError, ValueError) as error:
            run.notes.append(str(error))
            continue
        found[step] = {k: mean_pass_at_k(dump.groups, k) or 0.0 for k in ks_up_to(dump.samples)}
    return found


def training_pass_at_k(run: Run, window: int, among: Collection[int] | None = None) -> dict[int, Curve]:
    """From the training groups: by step, pass@k by k; means over the first and the last `window` steps, of `among`."""
    ends: dict[int, Curve] = {}
    for k, curve in sorted(_pass_curves(run).items()):
        steps = sorted(curve if among is None else curve.keys() & set(among))
        for chosen, end in ((steps[:window], 0), (steps[-window:], -1)) if steps else ():
            ends.setdefault(steps[end], {})[k] = statistics.fmean(curve[s] for s in chosen)
    return ends


def _pass_curves(run: Run) -> dict[int, Curve]:
    prefix = "asymgrpo/pass_at/"
    return {int(key.removeprefix(prefix)): curve for key, curve in run.series.items() if key.startswith(prefix)}


def pass_at_k_ends(runs: Sequence[Run], window: int, held_out: bool) -> tuple[list[Curve], list[Curve]]:
    """pass@k by k of each run that has it, at the first and at the last of the steps that all of these have."""
    by_run = [set(run.validation) if held_out else {*chain(*_pass_curves(run).values())} for run in runs]
    having = [run for run, steps in zip(runs, by_run, strict=True) if steps]
    common = set.intersection(*filter(None, by_run)) if having else set()
    ends = [held_out_pass_at_k(run, common) if held_out else training_pass_at_k(run, window, common) for run in having]
    ends = [end for end in ends if end]
    return [end[min(end)] for end in ends], [end[max(end)] for end in ends]
