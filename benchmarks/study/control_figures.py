"""The figures of docs/entropy.md."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.study.control import CONTROL_TASKS, ROBUST, STEP_SIZES
from benchmarks.study.control_tables import EVERY_TEMPERATURE, at_temperature, controlled, robust_runs
from benchmarks.study.measures import TASK_NAMES, Estimate, Study, pass_at
from benchmarks.study.methods import BASES, LABELS
from recipe.asymgrpo.report.painter import COLOURS


def frontier(plt: Any, study: Study) -> Any:
    """pass@32 against pass@1 along the temperatures of evaluation, means over the seeds: the bases bold."""
    figure, axes = plt.subplots(1, len(CONTROL_TASKS), figsize=(10.5, 4.2), layout="constrained")
    for axis, task in zip(axes, CONTROL_TASKS, strict=True):
        for number, method in enumerate(controlled(study)):
            runs = study.runs("control", method, task).values()
            if runs:
                xs, ys = (
                    [statistics.fmean(map(at_temperature(k, t), runs)) for t in EVERY_TEMPERATURE] for k in (1, 32)
                )
                width = 2.4 if method in BASES else 1.2
                axis.plot(xs, ys, "o-", color=plt.cm.tab10(number % 10), linewidth=width, label=LABELS[method])
        axis.set(title=f"{TASK_NAMES[task]}: temperatures 0.6, 1, 1.3", xlabel="pass@1", ylabel="pass@32")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def robust(plt: Any, study: Study) -> Any:
    """pass@1 and pass@32 against the step size, with 95 % intervals over the seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    for axis, k in zip(axes, (1, 32), strict=True):
        for number, method in enumerate(ROBUST):
            found = {lr: rows for lr, rows in robust_runs(study, method).items() if rows}
            spread = {lr: Estimate.of([pass_at(k)(row) for row in rows]) for lr, rows in found.items()}
            style = {"color": COLOURS[number % 2], "linestyle": ("-", "--", ":")[number // 2]}
            axis.plot(list(spread), [one.mean for one in spread.values()], marker="o", **style, label=LABELS[method])
            low, high = [one.low for one in spread.values()], [one.high for one in spread.values()]
            axis.fill_between(list(spread), low, high, color=style["color"], alpha=0.12, linewidth=0)
        axis.set(title=f"Countdown, 400 steps: pass@{k}", xlabel="learning rate", xscale="log")
        axis.minorticks_off()
        axis.set_xticks(STEP_SIZES, [f"{lr:g}" for lr in STEP_SIZES])
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    return figure
