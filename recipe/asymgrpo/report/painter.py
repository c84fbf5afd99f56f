"""What every figure of a report is drawn with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from recipe.asymgrpo.report.comparison import Curve, Measure, Report, band, smooth
from recipe.asymgrpo.report.runs import Run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")  # Okabe and Ito's


def png(figure: Any, dpi: int = 110) -> bytes:
    """A matplotlib figure as a PNG with a palette of 256 colours, a third of the size, the same bytes every time."""
    from PIL import Image

    drawn, buffer = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


@dataclass
class Figure:
    """A drawn panel."""

    name: str
    title: str
    caption: str
    png: bytes


def _where_there_are_tokens(run: Run, key: str) -> Curve:
    """A figure of the tokens of one sign is logged as 0 where there are none."""
    share = run[f"{key.rpartition('/')[0]}/token_share"]
    return {step: value for step, value in run[key].items() if share.get(step, 1)}


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
        plt.rcParams.update(
            {"text.parse_math": False, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
        )

    def new(self, columns: int = 1, rows: int = 1, size: tuple[float, float] = (5.6, 3.5)) -> tuple[Any, Any]:
        return self.plt.subplots(rows, columns, figsize=size, constrained_layout=True, squeeze=False)

    def finish(self, drawing: Any, name: str, title: str, caption: str) -> Figure:
        drawing.suptitle(title, fontsize=11)
        image = png(drawing)
        self.plt.close(drawing)
        return Figure(name, title, caption, image)

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
        axis.plot(
            steps,
            mean,
            style,
            color=colour,
            linewidth=2,
            marker=marker,
            # Labels that begin with an underscore are left out of a legend.
            label=re.sub("^_", "\u200b_", label or f"{method} ({len(curves)} seed{'s' * (len(curves) > 1)})"),
        )
        if len(curves) > 1:
            # Two seeds have a very wide interval: it must not decide the scale.
            limits = axis.dataLim.frozen()
            half = [over_seeds.half[s] for s in steps]
            low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
            axis.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
            axis.dataLim.set(limits)
            axis.autoscale_view()

    def dress(self, axis: Any, ylabel: str, xlabel: str = "step") -> None:
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        axis.grid(alpha=0.25)
        handles, labels = axis.get_legend_handles_labels()
        if 1 < len(labels) <= 12:
            axis.legend(handles, labels, fontsize=8, frameon=False)

    def measure(self, measure: Measure, name: str, caption: str) -> Figure | None:
        """One line a method; None where no run has the metric."""
        if not any(run[measure.key] for run in self.report.runs):
            return None
        drawing, ((axis,),) = self.new()
        for method, runs in self.report.methods.items():
            self.lines(axis, method, measure.curves(runs, self.report.window))
        self.dress(axis, measure.unit or "share")
        if measure.best is min:
            axis.set_ylim(bottom=0)
        return self.finish(drawing, name, measure.name, caption)

    def several(
        self, keys: Mapping[str, tuple[str, str]], ylabel: str, name: str, title: str, caption: str
    ) -> Figure | None:
        """Several metrics in one panel, each a line a method; None where no run has any.

        Args:
            keys: by metric, its line style and what it is called after the method's name.
        """
        if not any(run[key] for run in self.report.runs for key in keys):
            return None
        drawing, ((axis,),) = self.new()
        for method, runs in self.report.methods.items():
            for key, (style, label) in keys.items():
                curves = [smooth(_where_there_are_tokens(run, key), self.report.window) for run in runs]
                self.lines(axis, method, curves, style, f"{method}, {label}")
        self.dress(axis, ylabel)
        axis.set_ylim(min(0, axis.dataLim.y0), max(axis.get_ylim()[1], 1e-3))
        return self.finish(drawing, name, title, caption)
