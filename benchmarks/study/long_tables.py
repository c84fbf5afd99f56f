"""The tables of the long runs: the grid of step sizes, the KL of an update, and the comparison on fresh seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection

from benchmarks.study.control import SAME_STEP_SIZES, TASK
from benchmarks.study.experiments import (
    LARGE_TASK,
    LONG_STEPS,
    OTHER_TASKS,
    TASKS,
    Incomplete,
    Result,
    long_scores,
)
from benchmarks.study.measures import LEAST_SEEDS, TASK_NAMES, Study, at_end, last, pass_at
from benchmarks.study.methods import LABELS, LARGE_METHODS, LONG_METHODS, LONGER_METHODS
from benchmarks.study.tables import mean, methods_table, passes, table

SHOWN = ("grpo", "asymgrpo", "modulated_0.3", "maxrl")
"""README's columns, beside the best of the rest."""


def grid_runs(study: Study, method: str, task: str, grid: str = "long_grid") -> dict[float, list[Result]]:
    """The finished runs of a method's long grid by step size, those of its whole grid only."""
    runs: dict[float, list[Result]] = {lr: [] for lr in long_scores(study.rows, method, task, grid)}
    for row in study.groups[grid]:
        if (row["method"], row["task"], tuple(row["overrides"])) == (method, task, LONGER_METHODS[method]):
            runs.setdefault(row["lr"], []).append(row)
    return runs


def best_so_far(study: Study, method: str, task: str, grid: str = "long_grid") -> tuple[float, list[Result]]:
    """The step size with the best mean pass@1 on the selection prompts among those that were tried, and its runs.

    Raises:
        Incomplete: there is a step size without any run.
    """
    runs = grid_runs(study, method, task, grid)
    if not all(runs.values()):
        raise Incomplete(f"{LABELS[method]} has step sizes without a run: run.sh --only {grid}")
    scores = long_scores(study.rows, method, task, grid)  # with those that failed, which have solved nothing
    best = max(runs, key=lambda lr: statistics.fmean(scores.get(lr) or [0.0]))
    return best, runs[best]


def grid_table(study: Study, task: str, grid: str = "long_grid", methods: Collection[str] = tuple(LONG_METHODS)) -> str:
    """pass@1 / @8 / @32 on the selection prompts by step size, means over the seeds so far; bold: the best pass@1."""
    rates = sorted({lr for method in methods for lr in grid_runs(study, method, task, grid)})
    rows = []
    for method in methods:
        runs = grid_runs(study, method, task, grid)
        try:
            best = best_so_far(study, method, task, grid)[0]
        except Incomplete:
            best = None
        cells = [LABELS[method]]
        for lr in rates:
            found = runs.get(lr, [])
            text = f"{passes(found)} ({len(found)})" if found else ""
            cells.append(f"**{text}**" if lr == best else text)
        if any(cells[1:]):
            rows.append(cells)
    if not rows:
        raise Incomplete(f"no finished run: run.sh --only {grid}")
    return table(("method", *(f"lr {lr:g}" for lr in rates)), rows)


def kl_table(study: Study, task: str) -> str:
    """What an update does at each method's best step size: how far it moves the policy, and what is left at the end."""
    rows = []
    for method in LONG_METHODS:
        try:
            lr, runs = best_so_far(study, method, task)
        except Incomplete:
            continue
        cells = [f"{statistics.fmean(row['update_kl'] for row in runs):.4f}"]
        for name in ("entropy", "none_solved"):
            cells.append(mean(runs, last(name)))
        rows.append([LABELS[method], f"{lr:g}", str(len(runs)), *cells])
    if not rows:
        raise Incomplete("no finished run: run.sh --only long_grid")
    return table(("method", "lr", "seeds", "KL of an update, nats a token", "entropy", "none solved"), rows)


def final_table(study: Study, task: str) -> str:
    """The comparison on fresh seeds and test prompts."""
    if not any(row["task"] == task for row in study.groups["long_final"]):
        raise Incomplete(f"no method with {LEAST_SEEDS} seeds: run.sh --only long_final, when the grid is complete")
    return methods_table(study, "long_final", task)


def best_checkpoint_table(study: Study) -> str:
    """The best checkpoint of each run, as practitioners choose it, beside its last, on fresh seeds."""
    rows = []
    for task in (*reversed(TASKS), *OTHER_TASKS):
        for method in LONG_METHODS:
            runs = list(study.runs("long_final", method, task).values())
            if runs:
                steps = sorted(row["best"]["step"] for row in runs)
                best = passes([row["best"] for row in runs])
                cells = [passes(runs), best, f"{statistics.median(steps):g} ({steps[0]} to {steps[-1]})"]
                rows.append([TASK_NAMES[task], LABELS[method], str(len(runs)), *cells])
    if not rows:
        raise Incomplete(f"no method with {LEAST_SEEDS} seeds: run.sh --only long_final, when the grid is complete")
    return table(("task", "method", "seeds", "last step", "best checkpoint", "its step, median"), rows)


def scale_table(study: Study) -> str:
    """What each method adds to GRPO in the larger model, and in the small one where it has runs."""
    rows = []
    for method in LARGE_METHODS[1:]:
        for k in (1, 8, 32):
            cells = [LABELS[method], f"pass@{k}"]
            for group in ("large", "long_final"):
                try:
                    found = study.difference(group, method, "grpo", LARGE_TASK, pass_at(k))
                except Incomplete:
                    cells.append("")
                else:
                    cells.append(f"{found.text(sign=True)} ({found.seeds})")
            rows.append(cells)
    return table(("method minus GRPO", "", "large model (seeds)", "small model (seeds)"), rows)


def headline_table(study: Study) -> str:
    """README's, countdown in long runs: on fresh seeds where every shown method has them, else from the grid so far.

    Raises:
        Incomplete: neither is there.
    """
    task = "countdown"
    shown_methods = (*SHOWN, *_best_of_the_rest(study, task))
    fresh = {method: list(study.runs("long_final", method, task).values()) for method in shown_methods}
    if all(fresh.values()):
        chosen = {method: (rows[0]["lr"], rows) for method, rows in fresh.items()}
        prompts, ends = "test prompts", {"entropy": at_end("entropy"), "none_solved": at_end("none_solved")}
    else:
        chosen = {method: best_so_far(study, method, task) for method in shown_methods}
        prompts = "selection prompts, on which the step sizes were chosen"
        ends = {name: last(name) for name in ("entropy", "none_solved")}
    measures: dict[str, Callable[[Result], float]] = {f"pass@{k}": pass_at(k) for k in (1, 8, 32)}
    measures |= {
        "entropy, last steps, nats a token": ends["entropy"],
        "prompts unsolved, last steps": ends["none_solved"],
    }
    header = ("", *(f"{LABELS[method]}, lr {lr:g}" for method, (lr, _) in chosen.items()))
    rows = [[name, *(mean(found, measure) for _, found in chosen.values())] for name, measure in measures.items()]
    seeds = sorted({len(found) for _, found in chosen.values()})
    counted = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    plural = "" if seeds == [1] else "s"
    shown = f"Countdown, {LONG_STEPS[task]} steps, {counted} seed{plural}, {prompts}:\n\n{table(header, rows)}"
    return f"{shown}\n\n{_beside_grpo(study)}" if all(fresh.values()) else shown


def _best_of_the_rest(study: Study, task: str) -> list[str]:
    """The method with the best pass@1 on the selection prompts among those that have no column of their own; [] where
    there is none."""
    found = {}
    for method in LONG_METHODS:
        try:
            found[method] = statistics.fmean(map(pass_at(1), best_so_far(study, method, task)[1]))
        except Incomplete:
            continue
    return sorted(found.keys() - set(SHOWN), key=lambda method: -found[method])[:1]


def _beside_grpo(study: Study) -> str:
    """What AsymGRPO adds to GRPO on each task, at the best step size of each, and at the same one."""
    own = [("long_final", task, None) for task in (*reversed(TASKS), *OTHER_TASKS)]
    same = [("control_robust", TASK, lr) for lr in SAME_STEP_SIZES]
    rows = []
    for group, task, lr in (*own[:1], *same, *own[1:]):
        try:
            found = [study.difference(group, "asymgrpo", "grpo", task, pass_at(k), lr) for k in (1, 8, 32)]
        except Incomplete:
            continue
        rates = [next(iter(study.runs(group, m, task, lr).values()))["lr"] for m in ("asymgrpo", "grpo")]
        words = " and ".join(f"{rate:g}" for rate in dict.fromkeys(rates))
        cells = [estimate.text(sign=True) for estimate in found]
        rows.append([TASK_NAMES[task], words, str(found[0].seeds), *cells])
    shown = table(("", "lr", "seeds", "pass@1", "pass@8", "pass@32"), rows)
    return f"AsymGRPO minus GRPO, paired by seed, mean [95 % interval]:\n\n{shown}"
