"""The groups of the study about the entropy control (docs/entropy.md)."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

from benchmarks.study.experiments import (
    FEW,
    FEW_TUNED,
    FRESH,
    LONG_STEPS,
    TUNED,
    Experiment,
    Incomplete,
    Result,
    best_lr,
    grid_of,
    settled,
)
from benchmarks.study.methods import (
    BASES,
    BONUSES,
    CEILINGS,
    CHANNEL_FLOORS,
    CHANNELS,
    CONTROL,
    CONTROL_METHODS,
    FLOORS,
    LONG_METHODS,
    LONGER_METHODS,
    WAYS,
    coefficient_overrides,
    control_overrides,
)

CONTROL_TASKS = ("countdown", "quantum_lock")
TASK = "countdown"  # of the groups with one task
BEST, BEST_LONGER = 6, 2
LONGER = {TASK: 800}
FIXED = "modulated_0.3"  # what a floor replaces: the same change of successes, at any entropy
STEP_SIZES = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)
SAME_STEP_SIZES = (2e-4, 4e-4)  # of them, GRPO's best and AsymGRPO's in the long runs
HELD_TASK, HELD_STEPS, HELD_FLOOR = "chain_sum", 60, "0.6"
HELD_RATES = (4e-4, 1e-3)  # the quickstart's, and a careless one
TEMPERATURES = (0.6, 1.3)  # of evaluation, beside 1
AT_TEMPERATURES = ("control", "control_channel")
AT_LENGTH = ("control", "control_800")  # their curves are kept, the others' are not:
IN_SHORT = ("control_held", "control_levels", "control_channel", "control_explosion", "control_robust")
ON_FRESH = ("control_held", "control", "control_channel", "control_robust", "control_800")


def tuned(method: str) -> str:
    """The method whose step size it takes: the same way at the first floor."""
    base, way, _ = method.split("_")
    return f"{base}_{way}_{FLOORS[0]}"


def control_held(_: Sequence[Result]) -> Iterator[Experiment]:
    """How near to its floor each way keeps the entropy, and where it is without one."""
    methods = {"grpo": LONG_METHODS["grpo"]}
    methods |= {f"grpo_{way}_{HELD_FLOOR}": control_overrides("grpo", way, HELD_FLOOR) for way in WAYS}
    for seed, lr, (method, overrides) in itertools.product(FEW, HELD_RATES, methods.items()):
        yield Experiment("control_held", "light", method, overrides, HELD_TASK, seed, lr, HELD_STEPS)


def control_grid(results: Sequence[Result]) -> Iterator[Experiment]:
    """Step sizes of every way, at the first floor."""
    methods = [method for method in CONTROL_METHODS if method == tuned(method)]
    return grid_of(results, "control_grid", [*itertools.product(CONTROL_TASKS, methods)], LONG_STEPS)


def _tuned_rates(results: Sequence[Result]) -> dict[tuple[str, str], float]:
    """The step size of every way on every task.

    Raises:
        Incomplete: one is not known yet.
    """
    ways = dict.fromkeys(map(tuned, CONTROL_METHODS))
    return {(way, task): best_lr(results, way, task, "control_grid") for task in CONTROL_TASKS for way in ways}


def control_levels(results: Sequence[Result]) -> Iterator[Experiment]:
    """The other floors, on the selection prompts, each at its way's step size."""
    rates = _tuned_rates(results)
    others = [method for method in CONTROL_METHODS if method != tuned(method)]
    for seed, task, method in itertools.product(FEW_TUNED, CONTROL_TASKS, others):
        lr, overrides = rates[tuned(method), task], CONTROL_METHODS[method]
        yield Experiment("control_levels", "light", method, overrides, task, seed, lr, LONG_STEPS[task])


def best_methods(results: Sequence[Result], number: int) -> list[str]:
    """The methods under control with the best mean of pass@1 and pass@32, over both tasks, on the selection prompts;
    and after them the best of a base that has none among them, for a floor is compared with its own base.

    Raises:
        Incomplete: a step size or a floor is not known yet.
    """
    rates = _tuned_rates(results)
    found: dict[str, dict[str, list[float]]] = {}
    for row in settled(results):
        chosen = row["group"] == "control_levels" or (
            row["group"] == "control_grid" and row["lr"] == rates[row["method"], row["task"]]
        )
        if chosen:
            solved = row.get("pass_at") or {"1": 0.0, "32": 0.0}  # a training that failed has solved nothing
            score = (solved["1"] + solved["32"]) / 2
            found.setdefault(row["method"], {}).setdefault(row["task"], []).append(score)
    missing = [method for method in CONTROL_METHODS if set(found.get(method, ())) != set(CONTROL_TASKS)]
    if missing:
        raise Incomplete(f"floors of {missing[0]} are not run yet: run.sh --only control_grid control_levels")
    scores = {
        method: statistics.fmean(statistics.fmean(of_task[task]) for task in CONTROL_TASKS)
        for method, of_task in found.items()
    }
    ordered = sorted(scores, key=lambda method: -scores[method])
    of_each_base = [next(method for method in ordered if method.startswith(f"{base}_")) for base in BASES]
    return list(dict.fromkeys([*ordered[:number], *of_each_base]))


def control(results: Sequence[Result]) -> Iterator[Experiment]:
    """The best, and the bases without control: fresh seeds, test prompts, three temperatures of evaluation."""
    rates = _tuned_rates(results)
    best = best_methods(results, BEST)
    chosen: dict[tuple[str, str], float] = {}
    for task in CONTROL_TASKS:
        chosen |= {(base, task): best_lr(results, base, task, "long_grid") for base in BASES}
        chosen |= {(method, task): rates[tuned(method), task] for method in best}
    for seed, ((method, task), lr) in itertools.product(FRESH, chosen.items()):
        yield Experiment("control", "light", method, LONGER_METHODS[method], task, seed, lr, LONG_STEPS[task])


def control_channel(results: Sequence[Result]) -> Iterator[Experiment]:
    """The same entropy held on successes, on failures, on both, all else equal: the paper's thesis."""
    for seed, base, floor, channel in itertools.product(FRESH, BASES, CHANNEL_FLOORS, CHANNELS):
        lr = best_lr(results, base, TASK, "long_grid")
        overrides = control_overrides(base, channel, floor)
        name = f"{base}_{channel}_{floor}"
        yield Experiment("control_channel", "light", name, overrides, TASK, seed, lr, LONG_STEPS[TASK])


def control_explosion(results: Sequence[Result]) -> Iterator[Experiment]:
    """Entropy bonuses that are too large, with a ceiling at the first step's entropy and without."""
    lr = best_lr(results, "grpo", TASK, "long_grid")
    for seed, bonus, held in itertools.product(TUNED, BONUSES, ("", *CEILINGS)):
        word = "[grpo,entropy_floor]" if held else "grpo"
        overrides = [f"+asymgrpo={word}", f"actor_rollout_ref.actor.entropy_coeff={bonus:g}"]
        if held:
            overrides += [f"{CONTROL}.way={CEILINGS[held]}", f"{CONTROL}.floor=null", f"{CONTROL}.ceiling=1"]
        name = f"grpo_bonus_{bonus:g}{held}"
        yield Experiment("control_explosion", "light", name, tuple(overrides), TASK, seed, lr, LONG_STEPS[TASK])


ROBUST: dict[str, tuple[str, ...]] = {
    **{base: LONG_METHODS[base] for base in BASES},
    **{f"{base}_successes_0.5": control_overrides(base, "successes", "0.5") for base in BASES},
    "grpo_modulated_0.3": LONG_METHODS["grpo_modulated_0.3"],
    "asymgrpo_modulated_0.3": coefficient_overrides(0.3, 0),
}


def control_robust(_: Sequence[Result]) -> Iterator[Experiment]:
    """Step sizes from careful to careless: nothing, a floor, a fixed coefficient."""
    for seed, lr, (method, overrides) in itertools.product(FRESH, STEP_SIZES, ROBUST.items()):
        yield Experiment("control_robust", "light", method, overrides, TASK, seed, lr, LONG_STEPS[TASK])


def _longer(results: Sequence[Result]) -> list[tuple[str, str]]:
    return [(TASK, method) for method in (*BASES, FIXED, *best_methods(results, BEST_LONGER))]


def control_800_grid(results: Sequence[Result]) -> Iterator[Experiment]:
    """Step sizes for twice the length, of the two best, of the bases, and of a fixed coefficient."""
    return grid_of(results, "control_800_grid", _longer(results), LONGER)


def control_800(results: Sequence[Result]) -> Iterator[Experiment]:
    """Twice the length: fresh seeds, test prompts."""
    for seed, (task, method) in itertools.product(FRESH, _longer(results)):
        lr = best_lr(results, method, task, "control_800_grid")
        yield Experiment("control_800", "light", method, LONGER_METHODS[method], task, seed, lr, LONGER[task])


GROUPS: dict[str, Callable[[Sequence[Result]], Iterator[Experiment]]] = {
    group.__name__: group
    for group in (
        *(control_held, control_grid, control_levels, control, control_channel, control_explosion, control_robust),
        *(control_800_grid, control_800),
    )
}
