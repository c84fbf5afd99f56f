"""Shows what the quickstart's runs learned: a table of one run in the terminal, and the curves of all runs as a PNG.

    python examples/quickstart/summary.py --run DIR

reads what verl wrote into the run folders beside DIR: ``metrics-*.jsonl`` (its ``file`` logger, one file for each
start), ``rollouts/STEP.jsonl`` (``trainer.rollout_data_dir``) and ``validation/STEP.jsonl``
(``trainer.validation_data_dir``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from train import MetricsTail, validation_accuracy

WINDOW = 5
"""Steps that a training figure is averaged over: a step has few groups, and its share of unsolved ones jumps."""


@dataclass
class Run:
    """The curves of one run, each ``{step: value}``."""

    method: str
    seed: str
    accuracy: dict[int, float] = field(default_factory=dict)
    accuracy_error: dict[int, float] = field(default_factory=dict)
    unsolved: dict[int, float] = field(default_factory=dict)
    entropy: dict[int, float] = field(default_factory=dict)
    max_probs_diff: float = 0.0


def read_run(folder: Path) -> Run:
    """Read a run folder ``METHOD-seedN``; where a resumed run repeated a step, the later start counts."""
    method, _, seed = folder.name.rpartition("-seed")
    run = Run(method, seed)
    for path in sorted(folder.glob("metrics-*.jsonl")):
        for record in MetricsTail(path).read():
            step, data = record["step"], record["data"]
            accuracy = validation_accuracy(data)
            if accuracy is not None:
                run.accuracy[step] = accuracy
            if "actor/entropy" in data:
                run.entropy[step] = data["actor/entropy"]
                run.max_probs_diff = max(run.max_probs_diff, data["training/rollout_probs_diff_max"])
    run.accuracy_error = {step: accuracy_error(folder / "validation" / f"{step}.jsonl") for step in run.accuracy}
    for step in run.entropy:
        run.unsolved[step] = unsolved_share(folder / "rollouts" / f"{step}.jsonl")
    return run


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def accuracy_error(path: Path) -> float:
    """Standard error of the held-out accuracy in a validation dump, over problems: each counts with the mean of its
    samples."""
    problems: dict[str, list[float]] = defaultdict(list)
    for row in rows_of(path):
        problems[row["input"]].append(row["acc"])
    means = [statistics.fmean(samples) for samples in problems.values()]
    return statistics.stdev(means) / len(means) ** 0.5


def unsolved_share(path: Path) -> float:
    """Share of the prompts in a rollout dump that no rollout solved; a key is ``{uid}_{rollout}_{output}``."""
    solved: dict[str, bool] = defaultdict(bool)
    for row in rows_of(path):
        solved[row["uid"].rsplit("_", 2)[0]] |= row["score"] > 0.5
    return 1 - sum(solved.values()) / len(solved)


def smooth(curve: dict[int, float]) -> dict[int, float]:
    """Mean over the last WINDOW steps (fewer at the start)."""
    steps = sorted(curve)
    return {
        step: statistics.fmean(curve[s] for s in steps[max(0, i + 1 - WINDOW) : i + 1]) for i, step in enumerate(steps)
    }


def table(run: Run) -> str:
    """First, best and last value of each curve, as text."""
    lines = [f"{'':<42}{'first':>16}{'best':>16}{'last':>16}"]

    def cell(curve: dict[int, float], step: int) -> str:
        error = f" ± {run.accuracy_error[step]:.3f}" if curve is run.accuracy else ""
        return f"{curve[step]:.3f}{error}".rjust(16)

    unsolved, entropy = smooth(run.unsolved), smooth(run.entropy)
    # The first average that covers a whole window is the honest start of an averaged curve.
    for name, curve, best in (
        ("held-out accuracy (temperature 1)", run.accuracy, max),
        ("prompts that no rollout solves *", unsolved, min),
        ("entropy, nats a token *", entropy, max),
    ):
        steps = sorted(curve)
        first = steps[0] if curve is run.accuracy else steps[min(WINDOW, len(steps)) - 1]
        chosen = (first, best((s for s in steps if s >= first), key=curve.__getitem__), steps[-1])
        lines.append(f"{name:<42}" + "".join(cell(curve, step) for step in chosen))
    lines.append(f"* means of {WINDOW} training steps; best: lowest for unsolved prompts, highest for the others")
    lines.append(f"rollout and trainer agree: training/rollout_probs_diff_max at most {run.max_probs_diff:.1e}")
    return "\n".join(lines)


def plot(runs: list[Run], path: Path) -> None:
    """The three curves side by side, one colour a method, thin lines for seeds and a thick one for their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    methods = sorted({run.method for run in runs})
    panels = (
        ("held-out accuracy", lambda run: run.accuracy),
        (f"prompts that no rollout solves\n(share, mean of {WINDOW} steps)", lambda run: smooth(run.unsolved)),
        (f"entropy (nats a token, mean of {WINDOW} steps)", lambda run: smooth(run.entropy)),
    )
    for axis, (title, curve_of) in zip(axes, panels, strict=True):
        for colour, method in enumerate(methods):
            curves = [curve_of(run) for run in runs if run.method == method]
            for curve in curves if len(curves) > 1 else ():
                axis.plot(*zip(*sorted(curve.items()), strict=True), color=f"C{colour}", alpha=0.3, linewidth=1)
            common = sorted(set.intersection(*(set(curve) for curve in curves)))
            mean = [statistics.fmean(curve[step] for curve in curves) for step in common]
            seeds = f"{len(curves)} seed" + "s" * (len(curves) > 1)
            axis.plot(common, mean, color=f"C{colour}", linewidth=2, label=f"{method} ({seeds})")
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description="Table of one run, curves of all runs beside it.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    options = parser.parse_args()
    folders = [path.parent for path in sorted(options.run.parent.glob("*/done.json"))]
    if options.run not in folders:
        print(f"{options.run}: no finished run there (done.json is missing)", file=sys.stderr)
        return 1
    runs = {folder: read_run(folder) for folder in folders}
    png = options.run.parent / "curves.png"
    plot(list(runs.values()), png)
    print(table(runs[options.run]))
    print(f"\ncurves of {len(runs)} run{'s' * (len(runs) > 1)}: {png}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
