"""The tables of the groups of the entropy control."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Collection

from benchmarks.study import aggregates, long_tables
from benchmarks.study.control import (
    CONTROL_TASKS,
    HELD_FLOOR,
    HELD_RATES,
    ROBUST,
    STEP_SIZES,
    TASK,
    TEMPERATURES,
    tuned,
)
from benchmarks.study.experiments import Incomplete, Result
from benchmarks.study.measures import TASK_NAMES, Study, accuracy, last, pass_at
from benchmarks.study.methods import (
    BASES,
    CHANNEL_FLOORS,
    CHANNELS,
    FLOORS,
    LABELS,
    LONGER_METHODS,
    WAYS,
)
from benchmarks.study.tables import mean, passes, table

EVERY_TEMPERATURE = sorted((*TEMPERATURES, 1.0))


def at_temperature(k: int, temperature: float) -> Callable[[Result], float]:
    """pass@k where the evaluation samples at this temperature."""
    if temperature == 1:
        return pass_at(k)
    return lambda row: row["pass_at_temperature"][f"{temperature:g}"][str(k)]


def controlled(study: Study, group: str = "control") -> list[str]:
    """The methods that a group runs, those that were chosen for it and their bases, in the study's order."""
    there = {row["method"] for row in study.groups[group]}
    return [method for method in LONGER_METHODS if method in there]


def at_own_step_size(study: Study, method: str, task: str) -> list[Result]:
    """On the selection prompts; none where the grid has not come so far."""
    if method != tuned(method):
        return list(study.runs("control_levels", method, task).values())
    try:
        return long_tables.best_so_far(study, method, task, "control_grid")[1]
    except Incomplete:
        return []


def held_table(study: Study) -> str:
    """The entropy of the last steps by the floor's, mean (least to most of the seeds), and pass@1 / @8 / @32."""
    group = study.groups["control_held"]
    if not group:
        raise Incomplete("no finished run: run.sh --only control_held")
    # A seed's first step, and so its floor, is the same for all ways and step sizes.
    floors = {row["seed"]: last("control/floor")(row) for row in group if "control/floor" in row["last"]}
    rows = []
    names = {"no floor": "grpo", **{way: f"grpo_{way}_{HELD_FLOOR}" for way in WAYS}}
    for name, method in names.items():
        cells = [name]
        for lr in HELD_RATES:
            runs = [row for row in group if (row["method"], row["lr"]) == (method, lr) and row["seed"] in floors]
            shares = [last("entropy")(row) / floors[row["seed"]] for row in runs]
            text = f"{statistics.fmean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})" if runs else ""
            cells += [text, passes(runs) if runs else ""]
        rows.append(cells)
    header = [name for lr in HELD_RATES for name in (f"lr {lr:g}: entropy by the floor", "pass@1 / @8 / @32")]
    return table(("way", *header), rows)


def levels_table(study: Study, task: str) -> str:
    """Every way at every floor, at the way's step size: pass@1 / @8 / @32 and the entropy of the last steps."""
    rows = []
    for base, way in itertools.product(BASES, WAYS):
        found = [at_own_step_size(study, f"{base}_{way}_{floor}", task) for floor in FLOORS]
        if any(found):
            cells = [
                f"{passes(runs)}, H {mean(runs, last('entropy'), 2)} ({len(runs)})" if runs else "" for runs in found
            ]
            rows.append([f"{LABELS[base]}, {way}", *cells])
    if not rows:
        raise Incomplete("no finished run: run.sh --only control_grid control_levels")
    return table(("", *(f"floor {floor}" if floor != "fall" else "from 1 to 0.4" for floor in FLOORS)), rows)


def frontier_table(study: Study, task: str) -> str:
    """pass@1 / pass@32 by the temperature of evaluation."""
    rows = []
    for method in controlled(study):
        runs = list(study.runs("control", method, task).values())
        if runs:
            cells = [" / ".join(mean(runs, at_temperature(k, t)) for k in (1, 32)) for t in EVERY_TEMPERATURE]
            rows.append([LABELS[method], str(len(runs)), *cells])
    if not rows:
        raise Incomplete("no finished run: run.sh --only control")
    return table(("method", "seeds", *(f"temperature {t:g}" for t in EVERY_TEMPERATURE)), rows)


def best_temperature(runs: Collection[Result], k: int) -> float:
    """Of evaluation, by the mean over the seeds."""
    return max(EVERY_TEMPERATURE, key=lambda t: statistics.fmean(map(at_temperature(k, t), runs)))


def more_than_a_temperature_table(study: Study) -> str:
    """Each method minus its base, both at the temperature of evaluation that is best for them, for each k: what a floor
    gives that a temperature would not have given. Paired by seed; p by Holm over the rows of a task and k."""
    rows = []
    for task, k in itertools.product(CONTROL_TASKS, (1, 32)):
        pairs = []
        for method in controlled(study):
            base = method.split("_")[0]
            seeds = study.paired("control", method, base, task)
            if method == base or not seeds:
                continue
            a, b = (study.runs("control", name, task) for name in (method, base))
            own, others = best_temperature(a.values(), k), best_temperature(b.values(), k)
            values = [at_temperature(k, own)(a[seed]) - at_temperature(k, others)(b[seed]) for seed in seeds]
            names = f"{LABELS[method]} minus {LABELS[base]}"
            pairs.append(([TASK_NAMES[task], names, f"pass@{k}", f"{own:g} and {others:g}"], values))
        rows += aggregates.compared(pairs)
    if not rows:
        raise Incomplete("no method beside its base: run.sh --only control")
    return table(("task", "", "", "temperatures", "difference", "seeds", "p, Holm"), rows)


def longer_table(study: Study) -> str:
    """After twice the length: every method minus GRPO, and minus AsymGRPO where that is its base. Paired by seed; p by
    Holm over the rows of a k."""
    methods = controlled(study, "control_800")
    asked = [(method, base) for base in BASES for method in methods if base == "grpo" or not method.startswith("grpo")]
    rows = []
    for k in (1, 8, 32):
        pairs = []
        for method, base in asked:
            seeds = study.paired("control_800", method, base, TASK)
            if method == base or not seeds:
                continue
            a, b = (study.runs("control_800", name, TASK) for name in (method, base))
            values = [pass_at(k)(a[seed]) - pass_at(k)(b[seed]) for seed in seeds]
            pairs.append(([f"{LABELS[method]} minus {LABELS[base]}", f"pass@{k}"], values))
        rows += aggregates.compared(pairs)
    if not rows:
        raise Incomplete("no method beside its base: run.sh --only control_800")
    return table(("", "", "difference", "seeds", "p, Holm"), rows)


def equal_entropy(study: Study, base: str) -> float:
    """The entropy, in nats, in the middle of those that all channels reach: where they are compared.

    Raises:
        Incomplete: there is none, or not all floors have runs.
    """
    reached = []
    for channel in CHANNELS:
        by_floor = [study.runs("control_channel", f"{base}_{channel}_{floor}", TASK) for floor in CHANNEL_FLOORS]
        if not all(by_floor):
            raise Incomplete(f"{LABELS[base]} on {channel} has floors without a run: run.sh --only control_channel")
        means = [statistics.fmean(map(last("entropy"), runs.values())) for runs in by_floor]
        reached.append((min(means), max(means)))
    low, high = max(least for least, _ in reached), min(most for _, most in reached)
    if low > high:
        words = "; ".join(f"{c} {a:.2f} to {b:.2f}" for c, (a, b) in zip(CHANNELS, reached, strict=True))
        raise Incomplete(f"{LABELS[base]}: no entropy that all channels reach ({words} nats)")
    return (low + high) / 2


def at_entropy(
    study: Study, base: str, channel: str, entropy: float, measure: Callable[[Result], float]
) -> dict[int, float]:
    """By seed, what the measure is at this measured entropy: on a line through the middle of the seed's floors, whose
    slope is the channel's, by least squares within seeds; one of a seed's own would be at the mercy of four points.

    Raises:
        Incomplete: the floors made no difference to the entropy.
    """
    points: dict[int, list[tuple[float, float]]] = {}
    for floor in CHANNEL_FLOORS:
        for seed, row in study.runs("control_channel", f"{base}_{channel}_{floor}", TASK).items():
            points.setdefault(seed, []).append((last("entropy")(row), measure(row)))
    whole = {seed: pairs for seed, pairs in points.items() if len(pairs) == len(CHANNEL_FLOORS)}
    middles = {seed: tuple(map(statistics.fmean, zip(*pairs, strict=True))) for seed, pairs in whole.items()}
    away = [(h - middles[seed][0], value - middles[seed][1]) for seed, pairs in whole.items() for h, value in pairs]
    spread = sum(h * h for h, _ in away)
    if not spread:
        raise Incomplete(f"{LABELS[base]} on {channel}: all floors end at one entropy")
    slope = sum(h * value for h, value in away) / spread
    return {seed: value + slope * (entropy - h) for seed, (h, value) in middles.items()}


def channel_table(study: Study) -> str:
    """Successes minus failures, and minus both, at equal measured entropy. Paired by seed; p by Holm over the rows of a
    pair of channels and a temperature, of which the first at temperature 1 are the thesis."""
    entropies = {base: equal_entropy(study, base) for base in BASES}
    rows = []
    for other, temperature in itertools.product(CHANNELS[1:], EVERY_TEMPERATURE):
        pairs = []
        for base, k in itertools.product(BASES, (1, 32)):
            measure = at_temperature(k, temperature)
            a, b = (at_entropy(study, base, c, entropies[base], measure) for c in (CHANNELS[0], other))
            cells = [f"{CHANNELS[0]} minus {other}", f"{temperature:g}", LABELS[base], f"{entropies[base]:.3f}"]
            pairs.append(([*cells, f"pass@{k}"], [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]))
        rows += aggregates.compared(pairs)
    return table(("", "temperature", "", "entropy, last steps", "", "difference", "seeds", "p, Holm"), rows)


def reached_table(study: Study) -> str:
    """The entropy that each channel reached at each floor, and what it solved there."""
    rows = []
    for base, channel in itertools.product(BASES, CHANNELS):
        methods = [f"{base}_{channel}_{floor}" for floor in CHANNEL_FLOORS]
        found = [list(study.runs("control_channel", method, TASK).values()) for method in methods]
        if any(found):
            cells = [f"H {mean(runs, last('entropy'))}: {passes(runs)} ({len(runs)})" if runs else "" for runs in found]
            rows.append([f"{LABELS[base]}, {channel}", *cells])
    if not rows:
        raise Incomplete("no finished run: run.sh --only control_channel")
    return table(("", *(f"floor {floor}" for floor in CHANNEL_FLOORS)), rows)


def untuned_table(study: Study) -> str:
    """What each adds in the mean over all step sizes, as one who does not tune would meet them. Paired by seed; p by
    Holm over the rows of a k."""
    asked = [(method, method.split("_")[0]) for method in ROBUST if method not in BASES]
    asked += [("asymgrpo", "grpo"), ("asymgrpo_successes_0.5", "grpo_successes_0.5")]
    rows = []
    for k in (1, 32):
        measure, pairs = pass_at(k), []
        for method, other in asked:
            a, b = ([study.runs("control_robust", name, TASK, lr) for lr in STEP_SIZES] for name in (method, other))
            seeds = sorted(set.intersection(*(set(runs) for runs in (*a, *b))))
            values = [statistics.fmean(measure(x[s]) - measure(y[s]) for x, y in zip(a, b, strict=True)) for s in seeds]
            if values:
                pairs.append(([f"{LABELS[method]} minus {LABELS[other]}", f"pass@{k}"], values))
        rows += aggregates.compared(pairs)
    if not rows:
        raise Incomplete("no two methods at every step size: run.sh --only control_robust")
    return table(("", "", "difference", "seeds", "p, Holm"), rows)


def explosion_table(study: Study) -> str:
    """Entropy bonuses that are too large, with a ceiling and without."""
    rows = []
    for name in sorted({row["method"] for row in study.groups["control_explosion"]}):
        runs = list(study.runs("control_explosion", name, TASK).values())
        cells = [mean(runs, last(measure)) for measure in ("entropy", "none_solved", "length")]
        rows.append([LABELS[name], str(len(runs)), passes(runs), *cells])
    if not rows:
        raise Incomplete("no finished run: run.sh --only control_explosion")
    return table(("", "seeds", "pass@1 / @8 / @32", "entropy", "none solved", "length, tokens"), rows)


def robust_runs(study: Study, method: str) -> dict[float, list[Result]]:
    """By step size."""
    rows = [row for row in study.groups["control_robust"] if row["method"] == method]
    return {lr: [row for row in rows if row["lr"] == lr] for lr in STEP_SIZES}


def robust_table(study: Study) -> str:
    """Every step size; the last column is what the worst of them costs in pass@1, against the method's best."""
    rows = []
    for method in ROBUST:
        runs = robust_runs(study, method)
        means = [statistics.fmean(map(accuracy, found)) for found in runs.values() if found]
        if means:
            cells = [f"{passes(found)} ({len(found)})" if found else "" for found in runs.values()]
            rows.append([LABELS[method], *cells, f"{max(means) - min(means):.3f}"])
    if not rows:
        raise Incomplete("no finished run: run.sh --only control_robust")
    return table(("", *(f"lr {lr:g}" for lr in STEP_SIZES), "best minus worst, pass@1"), rows)
