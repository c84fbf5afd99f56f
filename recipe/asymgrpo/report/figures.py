"""The figures of a report, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from recipe.asymgrpo.report.comparison import (
    BINS,
    ENTROPY,
    NONE_SOLVED,
    TRAIN_ACCURACY,
    Curve,
    Measure,
    Report,
    band,
    covariance_by_p,
    entropy_prediction,
    held_out_pass_at_k,
    smooth,
    training_pass_at_k,
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")  # Okabe and Ito's
MOST_SOURCES = 6  # evaluation sets with a panel of their own
MOST_HISTOGRAMS = 12


@dataclass
class Figure:
    """A drawn panel."""

    name: str
    title: str
    caption: str
    png: bytes


class Painter:
    """Draws panels with matplotlib, one colour a method."""

    def __init__(self, report: Report):
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        self.plt, self.report = plt, report
        names = list(report.methods)
        self.colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
        self.dashes = {name: ("-", "--", ":", "-.")[i // len(COLOURS) % 4] for i, name in enumerate(names)}
        plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})

    def new(self, columns: int = 1, rows: int = 1, size: tuple[float, float] = (5.6, 3.5)) -> tuple[Any, Any]:
        return self.plt.subplots(rows, columns, figsize=size, constrained_layout=True, squeeze=False)

    def finish(self, figure: Any, title: str = "") -> bytes:
        if title:
            figure.suptitle(title, fontsize=11)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        self.plt.close(figure)
        return buffer.getvalue()

    def lines(self, axis: Any, method: str, curves: Sequence[Curve], style: str | None = None, label: str = "") -> None:
        """Thin lines for seeds, a thick one for their mean, a band for its 95 % interval."""
        curves = [curve for curve in curves if curve]
        if not curves:
            return
        colour, style = self.colour[method], style or self.dashes[method]
        over_seeds = band(curves)
        for curve in curves if len(curves) > 1 or not over_seeds.mean else ():
            steps = sorted(curve)
            axis.plot(steps, [curve[s] for s in steps], style, color=colour, alpha=0.3, linewidth=0.8)
        steps = sorted(over_seeds.mean)
        mean = [over_seeds.mean[s] for s in steps]
        marker = "o" if len(steps) < 3 else None
        axis.plot(steps, mean, style, color=colour, linewidth=2, marker=marker, label=label or self.label(method))
        if len(curves) > 1:
            # Two seeds have a very wide interval: it must not decide the scale.
            limits = axis.dataLim.frozen()
            half = [over_seeds.half[s] for s in steps]
            low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
            axis.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
            axis.dataLim.set(limits)
            axis.autoscale_view()

    def label(self, method: str) -> str:
        seeds = len(self.report.methods[method])
        return f"{method} ({seeds} seed{'s' * (seeds > 1)})"

    def dress(self, axis: Any, ylabel: str, xlabel: str = "step") -> None:
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        axis.grid(alpha=0.25)
        handles, labels = axis.get_legend_handles_labels()
        if 1 < len(labels) <= 12:
            axis.legend(handles, labels, fontsize=8, frameon=False)

    def measure(self, measure: Measure, caption: str, name: str) -> Figure | None:
        """One line a method."""
        if not any(run[measure.key] for run in self.report.runs):
            return None
        figure, ((axis,),) = self.new()
        for method, runs in self.report.methods.items():
            self.lines(axis, method, measure.curves(runs, self.report.window))
        self.dress(axis, measure.unit or "share")
        if measure.best is min:
            axis.set_ylim(bottom=0)
        return Figure(name, measure.name, caption, self.finish(figure, measure.name))

    def by_sign(self, metric: str, title: str, ylabel: str, caption: str, name: str) -> Figure | None:
        """Successes and failures, drawn through and dashed."""
        keys = {"positive": "-", "negative": "--"}
        if not any(run[f"actor/{sign}/{metric}"] for run in self.report.runs for sign in keys):
            return None
        figure, ((axis,),) = self.new()
        for method, runs in self.report.methods.items():
            for sign, style in keys.items():
                curves = [smooth(run[f"actor/{sign}/{metric}"], self.report.window) for run in runs]
                self.lines(axis, method, curves, style, f"{method}, A {'>' if sign == 'positive' else '<'} 0")
        self.dress(axis, ylabel)
        axis.set_ylim(0, max(axis.get_ylim()[1], 1e-3))
        return Figure(name, title, caption, self.finish(figure, title))

    def histogram(self) -> Figure | None:
        """Stacked shares of the bins of p over time, one small axis a method."""
        methods = [m for m, runs in self.report.methods.items() if any(run["asymgrpo/p_hist/0_20"] for run in runs)]
        if not methods:
            return None
        shown = methods[:MOST_HISTOGRAMS]
        columns = min(3, len(shown))
        rows = -(-len(shown) // columns)
        figure, grid = self.new(columns, rows, (max(5.6, 3.2 * columns), 2.9 * rows + 0.3))
        shades = self.plt.get_cmap("RdYlBu")([0.06, 0.27, 0.5, 0.75, 0.95])
        for axis in grid.flat[len(shown) :]:
            axis.set_visible(False)
        for axis, method in zip(grid.flat, shown, strict=False):
            layers = []
            for name in BINS:
                curves = [
                    smooth(run[f"asymgrpo/p_hist/{name}"], self.report.window) for run in self.report.methods[method]
                ]
                layers.append(band(curves).mean)
            steps = sorted(set.intersection(*map(set, layers)))
            axis.stackplot(steps, [[layer[s] for s in steps] for layer in layers], colors=shades, labels=BINS.values())
            axis.set_title(method, fontsize=10)
            axis.set_ylim(0, 1)
            axis.set_xlabel("step")
            if steps:
                axis.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(
            handles[::-1], labels[::-1], title="solved by", loc="outside right center", fontsize=8, frameon=False
        )
        left = f" The first {len(shown)} of {len(methods)} methods." if len(shown) < len(methods) else ""
        caption = (
            "Groups by the share p of their rollouts that succeed. Learning moves mass up; a run that stops exploring "
            f"piles up at both ends, where groups teach nothing.{left}"
        )
        title = "how hard the training prompts are for the policy"
        return Figure("p_histogram", title, caption, self.finish(figure, title))

    def covariance(self) -> Figure | None:
        figures = {m: [covariance_by_p(run) for run in runs] for m, runs in self.report.methods.items()}
        if not any(value is not None for rows in figures.values() for row in rows for value in row):
            return None
        figure, ((axis,),) = self.new()
        for method, rows in figures.items():
            curves = [{i: v for i, v in enumerate(row) if v is not None} for row in rows]
            self.lines(axis, method, curves)
        axis.set_xticks(range(len(BINS)), list(BINS.values()))
        axis.axhline(0, color="black", linewidth=0.8)
        self.dress(axis, "Cov(log π(y), A), nats", "share p of the group that succeeds")
        caption = (
            "Covariance of a response's log-probability and its advantage within its group, mean over all steps. Above "
            "0 the update makes likely responses likelier and lowers the entropy."
        )
        title = "what lowers the entropy, by difficulty"
        return Figure("covariance_by_p", title, caption, self.finish(figure, title))

    def prediction(self) -> Figure | None:
        runs = self.report.runs
        curves, constant, r = entropy_prediction(runs, self.report.window)
        if not curves:
            return None
        figure, ((axis,),) = self.new()
        for method, own in self.report.methods.items():
            pairs = [curves[run.name] for run in own if run.name in curves]
            self.lines(axis, method, [measured for measured, _ in pairs], "-", f"{method}, measured")
            predicted = band([predicted for _, predicted in pairs]).mean
            axis.plot(
                list(predicted), list(predicted.values()), "--", color=self.colour[method], label=f"{method}, predicted"
            )
        axis.axhline(0, color="black", linewidth=0.8)
        self.dress(axis, "change of entropy, nats a token")
        rate = " times the learning rate" if all(run["actor/lr"] for run in runs) else ""
        strength = f"; r = {r:.2f} between changes of {self.report.window}-step means" if math.isfinite(r) else ""
        caption = (
            f"Measured, and predicted by -η Cov(log π, A) summed over steps, with one η = {constant:.3g}{rate} fitted "
            f"to all runs together{strength}. Every step measures entropy on other prompts, hence the noise."
        )
        title = "entropy change, predicted and measured"
        return Figure("entropy_prediction", title, caption, self.finish(figure, title))

    def pass_at_k(self) -> Figure | None:
        """pass@k over k, at the start (dashed) and at the end: held out where validation draws several samples."""
        held_out = {run.name: held_out_pass_at_k(run) for run in self.report.runs}
        validation = any(any(len(ks) > 1 for ks in steps.values()) for steps in held_out.values())
        figure, ((axis,),) = self.new()
        drawn = False
        for method, runs in self.report.methods.items():
            first, last = [], []
            for run in runs:
                by_step = held_out[run.name] if validation else training_pass_at_k(run, self.report.window)
                if by_step:
                    first.append(by_step[min(by_step)])
                    last.append(by_step[max(by_step)])
            for curves, style, when in ((first, "--", "first"), (last, "-", "last")):
                self.lines(axis, method, curves, style, f"{method}, {when}")
                drawn |= any(curves)
        if not drawn:
            self.plt.close(figure)
            return None
        ks = sorted({int(k) for line in axis.lines for k in line.get_xdata()})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ks, [str(k) for k in ks])
        axis.minorticks_off()
        self.dress(axis, "pass@k", "k")
        where = (
            "the validation set" if validation else f"the training groups (first and last {self.report.window} steps)"
        )
        caption = (
            f"Unbiased pass@k on {where}. A run that sharpens without exploring gains at k = 1 and loses at large k."
            + ("" if validation else " For held-out pass@k set actor_rollout_ref.rollout.val_kwargs.n above 1.")
        )
        title = "pass@k"
        return Figure("pass_at_k", title, caption, self.finish(figure, title))

    def figures(self) -> list[tuple[str, list[Figure]]]:
        """All panels that there is something for, in sections."""
        adv = Measure("share of the advantage mass on successes", "asymgrpo/adv_mass_positive", "share")
        accuracies = self.report.accuracies()
        learning: list[Figure | None] = [
            self.measure(a, "Sampled as verl's validation is configured.", f"accuracy_{number}")
            for number, a in enumerate(accuracies[:MOST_SOURCES])
        ]
        learning += [
            self.measure(TRAIN_ACCURACY, "Mean over groups of the share that succeeds.", "training_accuracy"),
            self.pass_at_k(),
        ]
        exploring = [
            self.measure(ENTROPY, "Some decline is learning; a plunge towards 0 is collapse.", "entropy"),
            self.by_sign(
                "surprisal",
                "entropy by sign of the advantage",
                "mean -log π, nats a token",
                "As sampled: along successes (informative, keep it) and along failures (spurious, prune it).",
                "entropy_by_sign",
            ),
            self.measure(
                NONE_SOLVED, "These prompts teach nothing; exploration is what lowers the share.", "none_solved"
            ),
            self.histogram(),
        ]
        pushing = [
            self.measure(
                adv, "Sum of positive advantages over the sum of all sizes: 0.5 is balance.", "advantage_mass"
            ),
            self.by_sign(
                "clipfrac",
                "tokens that PPO clips, by sign",
                "share of the sign's tokens",
                "Exactly 0 where each batch is used for one update only.",
                "clipfrac_by_sign",
            ),
            self.covariance(),
            self.prediction(),
        ]
        sections = (("Is it learning?", learning), ("Is it exploring?", exploring), ("What pushes?", pushing))
        return [(title, [figure for figure in figures if figure]) for title, figures in sections]
