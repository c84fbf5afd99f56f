"""The figures of a report, in sections."""

from __future__ import annotations

import math
import re

from recipe.asymgrpo.report.comparison import BINS, ENTROPY, NONE_SOLVED, TRAIN_ACCURACY, Measure, band, smooth
from recipe.asymgrpo.report.derived import covariance_by_p, entropy_prediction, pass_at_k_ends
from recipe.asymgrpo.report.painter import COLOURS, Figure, Painter, png

__all__ = ["COLOURS", "Figure", "Painter", "png", "sections"]

MOST_SOURCES = 6  # evaluation sets with a panel of their own
MOST_HISTOGRAMS = 12
ADV_MASS = Measure("share of the advantage mass on successes", "asymgrpo/adv_mass_positive", "share")


def _by_sign(metric: str) -> dict[str, tuple[str, str]]:
    """Successes drawn through, failures dashed."""
    return {f"actor/positive/{metric}": ("-", "A > 0"), f"actor/negative/{metric}": ("--", "A < 0")}


CONTROL = "asymgrpo/control/"


def control(painter: Painter) -> list[Figure | None]:
    """Of runs with an entropy control: where the entropy is between its levels, and what was done about it."""
    levels = {
        f"{CONTROL}entropy": ("-", "measured"),
        f"{CONTROL}floor": ("--", "floor"),
        f"{CONTROL}ceiling": (":", "ceiling"),
    }
    if not any(run[f"{CONTROL}action"] for run in painter.report.runs):
        return []  # `fade_dynamic` logs the entropy alone
    return [
        painter.several(
            levels,
            "nats a token",
            "entropy_control",
            "entropy under control",
            "The entropy that the control measures, between its floor and its ceiling.",
        ),
        painter.several(
            {f"{CONTROL}action": ("-", "action")},
            "action, in the way's own unit",
            "entropy_action",
            "what the control does",
            "Above 0 it raises the entropy, below 0 it lowers it, at 0 it leaves the advantages alone.",
        ),
    ]


def histogram(painter: Painter) -> Figure | None:
    """Stacked shares of the bins of p over time, one small axis a method."""
    report = painter.report
    methods = [m for m, runs in report.methods.items() if any(run["asymgrpo/p_hist/0_20"] for run in runs)]
    if not methods:
        return None
    shown = methods[:MOST_HISTOGRAMS]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    drawing, grid = painter.new(columns, rows, (max(5.6, 3.2 * columns), 2.9 * rows + 0.3))
    shades = painter.plt.get_cmap("RdYlBu")([0.06, 0.27, 0.5, 0.75, 0.95])
    for axis in grid.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, method in zip(grid.flat, shown, strict=False):
        layers = []
        for name in BINS:
            curves = [smooth(run[f"asymgrpo/p_hist/{name}"], report.window) for run in report.methods[method]]
            layers.append(band(curves).mean)
        steps = sorted(set.intersection(*map(set, layers)))
        axis.stackplot(steps, [[layer[s] for s in steps] for layer in layers], colors=shades, labels=BINS.values())
        axis.set_title(method, fontsize=10)
        axis.set_ylim(0, 1)
        axis.set_xlabel("step")
        if steps:
            axis.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    handles, labels = grid.flat[0].get_legend_handles_labels()
    drawing.legend(
        handles[::-1], labels[::-1], title="solved by", loc="outside right center", fontsize=8, frameon=False
    )
    left = f" The first {len(shown)} of {len(methods)} methods." if len(shown) < len(methods) else ""
    caption = (
        "Groups by the share p of their rollouts that succeed. Learning moves mass up; a run that stops exploring "
        f"piles up at both ends, where groups teach nothing.{left}"
    )
    title = "how hard the training prompts are for the policy"
    return painter.finish(drawing, "p_histogram", title, caption)


def covariance(painter: Painter) -> Figure | None:
    report = painter.report
    figures = {m: [covariance_by_p(run) for run in runs] for m, runs in report.methods.items()}
    if not any(value is not None for rows in figures.values() for row in rows for value in row):
        return None
    drawing, ((axis,),) = painter.new()
    for method, rows in figures.items():
        curves = [{i: v for i, v in enumerate(row) if v is not None} for row in rows]
        painter.lines(axis, method, curves)
    axis.set_xticks(range(len(BINS)), list(BINS.values()))
    axis.axhline(0, color="black", linewidth=0.8)
    painter.dress(axis, "Cov(log π(y), A), nats", "share p of the group that succeeds")
    caption = (
        "Covariance of a response's log-probability and its advantage within its group, mean over all steps. Above "
        "0 the update makes likely responses likelier and lowers the entropy."
    )
    title = "what lowers the entropy, by difficulty"
    return painter.finish(drawing, "covariance_by_p", title, caption)


def prediction(painter: Painter) -> Figure | None:
    report = painter.report
    runs = report.runs
    curves, constant, r = entropy_prediction(runs, report.window)
    if not curves:
        return None
    drawing, ((axis,),) = painter.new()
    for method, own in report.methods.items():
        pairs = [curves[run.name] for run in own if run.name in curves]
        painter.lines(axis, method, [measured for measured, _ in pairs], "-", f"{method}, measured")
        predicted = band([predicted for _, predicted in pairs]).mean
        axis.plot(
            list(predicted), list(predicted.values()), "--", color=painter.colour[method], label=f"{method}, predicted"
        )
    axis.axhline(0, color="black", linewidth=0.8)
    painter.dress(axis, "change of entropy, nats a token")
    rate = " times the learning rate" if all(run["actor/lr"] for run in runs) else ""
    strength = f"; r = {r:.2f} between changes of {report.window}-step means" if math.isfinite(r) else ""
    caption = (
        f"Measured, and predicted by -η Cov(log π, A) summed over steps, with one η = {constant:.3g}{rate} fitted "
        f"to all runs together{strength}. Every step measures entropy on other prompts, hence the noise."
    )
    title = "entropy change, predicted and measured"
    return painter.finish(drawing, "entropy_prediction", title, caption)


def pass_at_k(painter: Painter) -> Figure | None:
    """pass@k over k, at the start (dashed) and at the end: held out where validation draws several samples."""
    report = painter.report
    ends = {m: pass_at_k_ends(runs, report.window, held_out=True) for m, runs in report.methods.items()}
    held_out = any(len(curve) > 1 for both in ends.values() for curves in both for curve in curves)
    if not held_out:
        ends = {m: pass_at_k_ends(runs, report.window, held_out=False) for m, runs in report.methods.items()}
    if not any(first for first, _ in ends.values()):
        return None
    drawing, ((axis,),) = painter.new()
    for method, (first, last) in ends.items():
        painter.lines(axis, method, first, "--", f"{method}, first")
        painter.lines(axis, method, last, "-", f"{method}, last")
    ks = sorted({int(k) for line in axis.lines for k in line.get_xdata()})
    axis.set_xscale("log", base=2)
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    painter.dress(axis, "pass@k", "k")
    where = "the validation set" if held_out else f"the training groups (first and last {report.window} steps)"
    without = [run for run in report.runs if not (run.validation if held_out else run["asymgrpo/pass_at/1"])]
    caption = (
        f"Unbiased pass@k on {where}. A run that sharpens without exploring gains at k = 1 and loses at large k."
        + ("" if held_out else " For held-out pass@k set actor_rollout_ref.rollout.val_kwargs.n above 1.")
        + (f" Without {', '.join(report.named(without))}, where it was not measured." if without else "")
    )
    return painter.finish(drawing, "pass_at_k", "pass@k", caption)


def validation(painter: Painter) -> list[Figure | None]:
    """A panel for each evaluation set, the first ones where there are many."""
    measures = painter.report.accuracies()
    shown = measures[:MOST_SOURCES]
    caption = "Sampled as verl's validation is configured."
    if len(shown) < len(measures):
        caption += f" Panels are of the first {len(shown)} of {len(measures)} validation accuracies; the table has all."
    names: list[str] = []
    for measure in shown:
        which = re.sub(r"\W+", "_", measure.key.removeprefix("val-core/"))[-80:]
        name = f"accuracy_{which}" if len(measures) > 1 else "accuracy"
        names.append(f"{name}_{len(names)}" if name in names else name)
    return [painter.measure(measure, name, caption) for measure, name in zip(shown, names, strict=True)]


def sections(painter: Painter) -> list[tuple[str, list[Figure]]]:
    """All panels that there is something for."""
    learning = [
        *validation(painter),
        painter.measure(TRAIN_ACCURACY, "training_accuracy", "Mean over groups of the share that succeeds."),
        pass_at_k(painter),
    ]
    exploring = [
        painter.measure(ENTROPY, "entropy", "Some decline is learning; a plunge towards 0 is collapse."),
        *control(painter),
        painter.several(
            _by_sign("surprisal"),
            "mean -log π, nats a token",
            "entropy_by_sign",
            "entropy by sign of the advantage",
            "As sampled: along successes (informative, keep it) and along failures (spurious, prune it).",
        ),
        painter.measure(
            NONE_SOLVED, "none_solved", "These prompts teach nothing; exploration is what lowers the share."
        ),
        histogram(painter),
    ]
    pushing = [
        painter.measure(
            ADV_MASS, "advantage_mass", "Sum of positive advantages over the sum of all sizes: 0.5 is balance."
        ),
        painter.several(
            _by_sign("clipfrac"),
            "share of the sign's tokens",
            "clipfrac_by_sign",
            "tokens that PPO clips, by sign",
            "Exactly 0 where each batch is used for one update only.",
        ),
        covariance(painter),
        prediction(painter),
    ]
    found = (("Is it learning?", learning), ("Is it exploring?", exploring), ("What pushes?", pushing))
    return [(title, [figure for figure in figures if figure]) for title, figures in found]
