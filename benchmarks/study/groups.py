"""What the study runs: groups of experiments, as data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from benchmarks.study import control
from benchmarks.study.experiments import (
    BETAS,
    COEFFICIENTS,
    FEW,
    FRESH,
    LARGE_STEPS,
    LARGE_TASK,
    LEARNING_RATES,
    LONG_STEPS,
    OTHER_TASKS,
    STEPS,
    TASKS,
    TUNED,
    VERL_TASK,
    Experiment,
    Incomplete,
    Result,
    best_lr,
    grid_of,
)
from benchmarks.study.methods import (
    HEADLINE,
    LARGE_METHODS,
    LONG_METHODS,
    METHODS,
    OTHER_TASK_METHODS,
    coefficient_overrides,
)


def _grid(_: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, lr, (method, overrides) in itertools.product(TUNED, TASKS, LEARNING_RATES, METHODS.items()):
        yield Experiment("grid", "light", method, overrides, task, seed, lr, STEPS[task])


def _final(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, (method, overrides) in itertools.product(FRESH, TASKS, METHODS.items()):
        yield Experiment("final", "light", method, overrides, task, seed, best_lr(results, method, task), STEPS[task])


def beta_overrides(beta_pos: float, beta_neg: float) -> tuple[str, ...]:
    return (
        "+asymgrpo=paper",
        f"algorithm.asym_grpo.beta_pos={beta_pos:g}",
        f"algorithm.asym_grpo.beta_neg={beta_neg:g}",
    )


def _plane(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, beta_pos, beta_neg in itertools.product(FEW, TASKS, BETAS, BETAS):
        name, lr = f"beta({beta_pos:g},{beta_neg:g})", best_lr(results, "asymgrpo", task)
        yield Experiment("plane", "light", name, beta_overrides(beta_pos, beta_neg), task, seed, lr, STEPS[task])


def _coefficients(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, task, informative, spurious in itertools.product(FEW, TASKS, COEFFICIENTS, COEFFICIENTS):
        name, lr = f"modulated({informative:g},{spurious:g})", best_lr(results, "asymgrpo", task)
        overrides = coefficient_overrides(informative, spurious)
        yield Experiment("coefficients", "light", name, overrides, task, seed, lr, STEPS[task])


# (task, method) of the long runs, in the order in which a seed runs them; first come all seeds of the first ones.
LONG_PAIRS = [*itertools.product(reversed(TASKS), LONG_METHODS)]
OTHER_PAIRS = [*itertools.product(OTHER_TASKS, OTHER_TASK_METHODS)]


def _long_grid(results: Sequence[Result]) -> Iterator[Experiment]:
    for pairs in (LONG_PAIRS, OTHER_PAIRS):
        yield from grid_of(results, "long_grid", pairs, LONG_STEPS)


def _long_final(results: Sequence[Result]) -> Iterator[Experiment]:
    for pairs in (LONG_PAIRS, OTHER_PAIRS):
        try:
            rates = {(task, method): best_lr(results, method, task, "long_grid") for task, method in pairs}
        except Incomplete:
            if pairs is LONG_PAIRS:
                raise
            return  # another task's grid keeps nobody waiting
        for seed, (task, method) in itertools.product(FRESH, pairs):
            lr = rates[task, method]
            yield Experiment("long_final", "light", method, LONG_METHODS[method], task, seed, lr, LONG_STEPS[task])


def _large_grid(results: Sequence[Result]) -> Iterator[Experiment]:
    pairs = [(LARGE_TASK, method) for method in LARGE_METHODS]
    return grid_of(results, "large_grid", pairs, {LARGE_TASK: LARGE_STEPS})


def _large(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, method in itertools.product(FEW, LARGE_METHODS):
        lr = best_lr(results, method, LARGE_TASK, "large_grid")
        yield Experiment("large", "light", method, LONG_METHODS[method], LARGE_TASK, seed, lr, LARGE_STEPS)


def _verl(results: Sequence[Result]) -> Iterator[Experiment]:
    for seed, method in itertools.product(FEW, HEADLINE):
        lr = best_lr(results, method, VERL_TASK)
        yield Experiment("verl", "verl", method, METHODS[method], VERL_TASK, seed, lr, STEPS[VERL_TASK])


def _smollm2(_: Sequence[Result]) -> Iterator[Experiment]:
    for seed, method in itertools.product((1, 2), ("asymgrpo", "grpo")):
        yield Experiment("smollm2", "verl", method, (f"+asymgrpo={method}",), "chain_sum", seed, 5e-6, 30)


def _smoke(_: Sequence[Result]) -> Iterator[Experiment]:
    for engine, method in itertools.product(("light", "verl"), ("asymgrpo", "grpo")):
        yield Experiment("smoke", engine, method, METHODS[method], "chain_sum", 1, 4e-4, 20)


GROUPS: dict[str, Callable[[Sequence[Result]], Iterator[Experiment]]] = {
    "grid": _grid,
    "coefficients": _coefficients,
    "final": _final,
    "verl": _verl,
    "plane": _plane,
    "long_grid": _long_grid,
    "long_final": _long_final,
    "large_grid": _large_grid,
    "large": _large,
    **control.GROUPS,
    "smollm2": _smollm2,
    "smoke": _smoke,
}
"""In the order in which they are run; `smoke` only when it is asked for."""
