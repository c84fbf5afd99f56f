"""The figures of docs/results.md and docs/entropy.md, drawn with matplotlib from the results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.study import control_figures, long_tables
from benchmarks.study.experiments import (
    BETAS,
    LEARNING_RATES,
    LONG_LEARNING_RATES,
    OTHER_TASKS,
    TASKS,
    Incomplete,
    Result,
)
from benchmarks.study.measures import TASK_NAMES, WINDOW, Study, accuracy, at_end, last_quarter, pass_at
from benchmarks.study.methods import LABELS, METHODS
from recipe.asymgrpo.report.comparison import Band, band, smooth
from recipe.asymgrpo.report.painter import COLOURS, png

CURVES = ("asymgrpo", "grpo", "reinforce", "pos_only", "neg_only")
COLOUR = dict(zip(CURVES, COLOURS, strict=False))
# Where the named methods lie in the plane of exponents, and what is written there.
NAMED = {
    "REINFORCE": (0.0, 0.0),
    "Pos-only": (0.5, 0.0),
    "Neg-only": (0.0, 0.5),
    "GRPO": (0.5, 0.5),
    "MaxRL": (1.0, 0.0),
    "AsymGRPO": (0.9, 0.4),
}

DRAWN = {
    "methods": ("final", "Held-out pass@1, pass@8 and pass@32 of every method"),
    "curves": ("final", "Training accuracy, none-solved share and entropy"),
    "plane": ("plane", "Accuracy, pass@8, none-solved share and entropy over beta_pos and beta_neg"),
    "entropy_change": ("final", "Change of entropy by a step against the covariance before it"),
    "language_model": ("smollm2", "SmolLM2-135M: held-out accuracy, training accuracy and entropy"),
    "step_sizes": ("grid", "Accuracy by learning rate"),
    "long_curves": ("long_final", "Held-out pass@1, pass@8 and pass@32 along the long runs"),
    "long_step_sizes": ("long_grid", "Countdown, 400 steps: pass@1, pass@8 and pass@32 by learning rate"),
    "control_frontier": ("control", "pass@32 against pass@1 along the temperature of evaluation, with and without"),
    "control_robust": ("control_robust", "pass@1 and pass@32 by learning rate, with a floor, a coefficient, nothing"),
}
"""Of each figure: the group of runs that it needs, and what it shows."""


def shown(study: Study, name: str) -> str:
    """The Markdown of a figure, where its group has runs."""
    group, shows = DRAWN[name]
    if not study.groups[group]:
        raise Incomplete("no finished run")
    return f"![{shows}](results/{name}.png)"


def draw(study: Study, folder: Path) -> list[Path]:
    """Write every figure that the results suffice for; returns the files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, painter in FIGURES.items():
        if not study.groups[DRAWN[name][0]]:
            continue
        figure = painter(plt, study)
        path = folder / f"{name}.png"
        path.write_bytes(png(figure, dpi=120))
        plt.close(figure)
        written.append(path)
    return written


def draw_band(axis: Any, over: Band, steps: Sequence[int], colour: str, **style: Any) -> None:
    """The mean over seeds at these steps, with its 95 % interval."""
    mean, half = [over.mean[s] for s in steps], [over.half[s] for s in steps]
    axis.plot(steps, mean, color=colour, **style)
    low, high = ([m + side * h for m, h in zip(mean, half, strict=True)] for side in (-1, 1))
    axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def curves(plt: Any, study: Study, group: str, methods: Sequence[str], window: int = WINDOW) -> Any:
    """Training accuracy, none-solved share and entropy on both tasks, means of `window` steps, with 95 % intervals."""
    panels: list[tuple[str, Callable[[Result], Sequence[float]]]] = [
        ("training accuracy", lambda row: row["curve"]),
        ("prompts that no rollout solves", lambda row: row["series"]["none_solved"]),
        ("entropy, nats a token", lambda row: row["series"]["entropy"]),
    ]
    figure, axes = plt.subplots(len(TASKS), 3, figsize=(10, 5.6), constrained_layout=True, squeeze=False)
    for line, task in zip(axes, reversed(TASKS), strict=True):
        for axis, (title, values) in zip(line, panels, strict=True):
            for method in methods:
                rows = study.runs(group, method, task).values()
                over = band([smooth(dict(enumerate(values(row), 1)), window) for row in rows])
                steps = sorted(step for step in over.mean if step >= window)
                if steps:
                    draw_band(axis, over, steps, COLOUR[method], linewidth=1.6, label=LABELS[method])
            axis.set_title(f"{TASK_NAMES[task]}: {title}", fontsize=9)
            axis.set_xlabel("step")
    axes[0][0].legend(frameon=False, fontsize=8)
    return figure


def methods(plt: Any, study: Study) -> Any:
    """Held-out pass@1 and pass@8 of every method at its own step size."""
    figure, axes = plt.subplots(1, len(TASKS), figsize=(10, 4.8), constrained_layout=True, squeeze=False)
    for axis, task in zip(axes[0], reversed(TASKS), strict=True):
        means = {
            method: study.estimate("final", method, task, accuracy).mean
            for method in METHODS
            if study.runs("final", method, task)
        }
        known = sorted(means, key=means.__getitem__)
        for k, marker in ((1, "o"), (8, "s"), (32, "^")):
            for place, method in enumerate(known):
                found = study.estimate("final", method, task, pass_at(k))
                colour = COLOUR.get(method, "#777777")
                axis.plot([found.low, found.high], [place, place], color=colour, linewidth=1.5)
                axis.plot(
                    found.mean, place, marker, color=colour, markersize=4.5, label=f"pass@{k}" if not place else None
                )
        axis.set_yticks(range(len(known)), [LABELS[method] for method in known])
        axis.set_title(f"{TASK_NAMES[task]}: held-out, 95 % interval over seeds", fontsize=9)
        axis.grid(axis="x", alpha=0.3)
        axis.legend(frameon=False, fontsize=8, loc="upper center")
    return figure


def plane(plt: Any, study: Study) -> Any:
    """Heat maps over (beta_pos, beta_neg) with the named methods on them."""
    panels = [
        ("held-out pass@1", accuracy),
        ("held-out pass@8", pass_at(8)),
        ("none solved, last quarter", last_quarter("none_solved")),
        ("entropy at the end", at_end("entropy")),
    ]
    figure, axes = plt.subplots(len(TASKS), 4, figsize=(13, 6.2), constrained_layout=True, squeeze=False)
    for line, task in zip(axes, reversed(TASKS), strict=True):
        for axis, (title, measure) in zip(line, panels, strict=True):
            values = [
                [
                    statistics.fmean([measure(row) for row in runs.values()])
                    if (runs := study.runs("plane", f"beta({pos:g},{neg:g})", task))
                    else float("nan")
                    for pos in BETAS
                ]
                for neg in BETAS
            ]
            half = (BETAS[1] - BETAS[0]) / 2
            extent = (BETAS[0] - half, BETAS[-1] + half) * 2
            shown = axis.imshow(values, origin="lower", extent=extent, cmap="viridis", aspect="auto")
            figure.colorbar(shown, ax=axis, shrink=0.85)
            for name, (pos, neg) in NAMED.items():
                axis.plot(pos, neg, "o", color="white", markeredgecolor="black", markersize=5)
                axis.annotate(
                    name, (pos, neg), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7,
                    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
                )  # fmt: skip
            axis.set(
                title=f"{TASK_NAMES[task]}: {title}", xlabel="beta_pos", ylabel="beta_neg", xticks=BETAS, yticks=BETAS
            )
            axis.title.set_fontsize(9)
    return figure


def step_sizes(plt: Any, study: Study) -> Any:
    """Accuracy on the selection prompts by step size."""
    figure, axes = plt.subplots(1, len(TASKS), figsize=(10, 3.8), constrained_layout=True, squeeze=False)
    for axis, task in zip(axes[0], reversed(TASKS), strict=True):
        for method in METHODS:
            rows = [row for row in study.groups["grid"] if (row["method"], row["task"]) == (method, task)]
            by_lr = {lr: [row["val_acc"] for row in rows if row["lr"] == lr] for lr in LEARNING_RATES}
            means = {lr: statistics.fmean(values) for lr, values in by_lr.items() if values}
            named = method in COLOUR
            style: dict[str, Any] = {"color": COLOUR.get(method, "#aaaaaa"), "linewidth": 1.8 if named else 0.8}
            axis.plot(
                list(means), list(means.values()), "o-", markersize=3, **style, label=LABELS[method] if named else None
            )
        axis.set_xscale("log")
        axis.set_xticks(LEARNING_RATES, [f"{lr:g}" for lr in LEARNING_RATES])
        axis.minorticks_off()
        axis.set(title=f"{TASK_NAMES[task]}: accuracy on the selection prompts", xlabel="learning rate")
    axes[0][0].legend(frameon=False, fontsize=8)
    return figure


def entropy_change(plt: Any, study: Study) -> Any:
    """The change of entropy by a step's update against Cov(log pi, A) before it, all steps of all seeds."""
    figure, axes = plt.subplots(1, len(TASKS), figsize=(10, 3.8), constrained_layout=True, squeeze=False)
    for axis, task in zip(axes[0], reversed(TASKS), strict=True):
        for method in ("reinforce", "grpo", "asymgrpo"):
            pairs = [
                pair
                for row in study.runs("final", method, task).values()
                for pair in zip(row["series"]["cov"], row["series"]["entropy_change"], strict=True)
                if pair[0] is not None
            ]
            if pairs:
                axis.plot(
                    *zip(*pairs, strict=True),
                    ".",
                    color=COLOUR[method],
                    markersize=2.5,
                    alpha=0.5,
                    label=LABELS[method],
                )
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set(xlabel="Cov(log π, A) within groups, before the update", title=TASK_NAMES[task])
        axis.set_ylabel("entropy after minus before, nats a token")
        axis.legend(frameon=False, fontsize=8, markerscale=4)
    return figure


def language_model(plt: Any, study: Study) -> Any:
    """SmolLM2-135M: held-out accuracy, training accuracy and entropy by seed."""
    rows = study.groups["smollm2"]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), constrained_layout=True)
    for row in sorted(rows, key=lambda row: (row["method"], row["seed"])):
        style: dict[str, Any] = {"color": COLOUR[row["method"]], "linestyle": "-" if row["seed"] == 1 else "--"}
        label = f"{LABELS[row['method']]}, seed {row['seed']}"
        held_out = {int(step): value for step, value in row["held_out"].items()}
        axes[0].plot(list(held_out), list(held_out.values()), "o", **style, label=label)
        for axis, values in ((axes[1], row["curve"]), (axes[2], row["series"]["entropy"])):
            curve = smooth(dict(enumerate(values, 1)), WINDOW)
            axis.plot(list(curve), list(curve.values()), **style)
    for axis, title in zip(axes, ("held-out accuracy", "training accuracy", "entropy, nats a token"), strict=True):
        axis.set(title=f"SmolLM2-135M: {title}", xlabel="step")
        axis.title.set_fontsize(9)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def long_step_sizes(plt: Any, study: Study) -> Any:
    """pass@k against the step size in the long runs on countdown: how much a careless one costs each method."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
    for axis, k in zip(axes, (1, 8, 32), strict=True):
        for colour, method in zip(COLOURS, long_tables.SHOWN, strict=False):
            runs = long_tables.grid_runs(study, method, "countdown")
            points = {lr: [pass_at(k)(row) for row in rows] for lr, rows in sorted(runs.items()) if rows}
            axis.plot(
                list(points), list(map(statistics.fmean, points.values())), "o-", color=colour, label=LABELS[method]
            )
            for lr, values in points.items():
                axis.plot([lr] * len(values), values, ".", color=colour, alpha=0.5)
        axis.set(xscale="log", xlabel="learning rate", title=f"pass@{k}")
        axis.minorticks_off()
        axis.set_xticks(LONG_LEARNING_RATES, [f"{lr:g}" for lr in LONG_LEARNING_RATES])
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    return figure


def long_curves(plt: Any, study: Study) -> Any:
    """Held-out pass@k every 50 steps of the long runs, with 95 % intervals: what is lost over time."""
    others = [task for task in OTHER_TASKS if any(row["task"] == task for row in study.groups["long_final"])]
    tasks = [*reversed(TASKS), *others]
    size = (10.5, 2.9 * len(tasks))
    figure, axes = plt.subplots(len(tasks), 3, figsize=size, layout="constrained", squeeze=False)
    for line, task in zip(axes, tasks, strict=True):
        for axis, k in zip(line, (1, 8, 32), strict=True):
            for colour, method in zip(COLOURS, long_tables.SHOWN, strict=False):
                rows = study.runs("long_final", method, task).values()
                over = band([{int(step): found[str(k)] for step, found in row["held_out"].items()} for row in rows])
                draw_band(axis, over, sorted(over.mean), colour, marker="o", markersize=3, label=LABELS[method])
            axis.set(title=f"{TASK_NAMES[task]}: held-out pass@{k}", xlabel="step")
            axis.grid(alpha=0.3)
    axes[0][0].legend(frameon=False)
    return figure


FIGURES: dict[str, Callable[[Any, Study], Any]] = {
    "curves": partial(curves, group="final", methods=CURVES),
    "methods": methods,
    "plane": plane,
    "step_sizes": step_sizes,
    "entropy_change": entropy_change,
    "language_model": language_model,
    "long_curves": long_curves,
    "long_step_sizes": long_step_sizes,
    "control_frontier": control_figures.frontier,
    "control_robust": control_figures.robust,
}
