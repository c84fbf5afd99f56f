"""A page about training runs: is it learning, is it still exploring, what pushes it.

    python -m recipe.asymgrpo.report RUN [RUN ...] [--out DIR]

RUN is a run folder of the quickstart, a file of verl's logger `file`, TensorBoard event files, an offline wandb folder,
or a folder of such runs. Runs whose names differ in ``-seedN`` only are one method. Writes `report.html`, which needs
no network, and its figures as PNGs, and prints a summary.
"""

from __future__ import annotations

import argparse
import base64
import html
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.asymgrpo.report.comparison import Report, build
from recipe.asymgrpo.report.figures import Figure, Painter, sections
from recipe.asymgrpo.report.runs import find_runs

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 0 auto; max-width: 1180px;
  padding: 24px 16px 64px; }
h1 { font-size: 1.7em; margin: 0 0 .2em; } h2 { margin: 2em 0 .6em; border-bottom: 1px solid #d8dee4; }
.lead { color: #57606a; margin-top: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); gap: 24px; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; }
figure img { width: 100%; height: auto; }
figure.wide img { min-width: 560px; max-width: 960px; }
figcaption { font-size: .88em; color: #57606a; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 12px 4px 0; white-space: nowrap; border-bottom: 1px solid #eaeef2; }
th:first-child, td:first-child { text-align: left; } th[colspan] { padding-top: 12px; } td small { color: #57606a; }
li { overflow-wrap: anywhere; } .sw { display: inline-block; width: .8em; height: .8em; border-radius: 2px; }
"""


def page(report: Report, sections: list[tuple[str, list[Figure]]], colours: dict[str, str]) -> str:
    """The HTML page: figures inside, nothing loaded from elsewhere. The table is in it as JSON too."""
    escape = html.escape
    rows = report.table()
    count = len(report.runs)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'><title>AsymGRPO report</title>",
        f"<style>{STYLE}</style>",
        f"<h1>{escape(', '.join(list(report.methods)[:6]))}{' ...' if len(report.methods) > 6 else ''}</h1>",
        f"<p class=lead>{count} run{'s' * (count > 1)}. Training figures are means of {report.window} steps; lines are "
        "means over seeds, thin lines single seeds, bands and ± the mean's 95 % interval (Student's t).</p>",
        "<h2>First, best, last</h2><div class=scroll><table>",
        "<tr><th>method<th>seeds<th>first<th>best<th>last</tr>",
    ]
    measure = ""
    for row in rows:
        if row["measure"] != measure:
            measure = row["measure"]
            parts.append(f"<tr><th colspan=5>{escape(measure)}</tr>")
        cells = "".join(f"<td>{_cell(row[c])} <small>step {row[c]['step']}</small>" for c in ("first", "best", "last"))
        swatch = f"<span class=sw style='background:{colours[row['method']]}'></span> "
        parts.append(f"<tr><td>{swatch}{escape(row['method'])}<td>{row['seeds']}{cells}</tr>")
    parts.append("</table></div>")
    parts.append(_list("In words", report.sentences()))
    for title, figures in sections:
        if figures:
            parts.append(f"<h2>{escape(title)}</h2><div class=grid>")
            for figure in figures:
                image = base64.b64encode(figure.png).decode()
                wide = " class=wide" if figure.name == "p_histogram" else ""
                parts.append(
                    f"<figure{wide}><div class=scroll><img alt='{escape(figure.title, quote=True)}' "
                    f"src='data:image/png;base64,{image}'></div>"
                    f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
                )
            parts.append("</div>")
    parts.append(_list("How the configurations differ", report.differences() or ["They do not."]))
    parts.append(_list("What is not here", report.missing()))
    parts.append(_list("Runs", _run_lines(report)))
    data = json.dumps({"table": rows, "window": report.window}).replace("<", "\\u003c")
    parts.append(f"<script type='application/json' id=data>{data}</script></html>\n")
    return "\n".join(part for part in parts if part)


def _cell(cell: dict[str, Any]) -> str:
    half = f" ± {cell['half']:.3f}" if cell["half"] is not None else ""
    return f"{cell['mean']:.3f}{half}"


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>{html.escape(title)}</h2><ul>{items}</ul>" if lines else ""


def _run_lines(report: Report) -> list[str]:
    lines = []
    for run in report.runs:
        steps = run.steps
        span = f"{len(steps)} training steps, {steps[0]} to {steps[-1]}" if steps else "validation only"
        worst = max(run["training/rollout_probs_diff_max"].values(), default=None)
        agree = f"; rollout and trainer differ by at most {worst:.1e} in probability" if worst is not None else ""
        lines.append(f"{run.name}: {span}{agree}" + "".join(f"; {note}" for note in run.notes))
    return lines


def summary(report: Report) -> str:
    """The table as text."""
    rows = report.table()
    if not rows:
        return "no figure that this report knows"
    width = max(len(row["method"]) for row in rows)
    lines, last = [f"{'':<{width + 2}}{'first':>18}{'best':>18}{'last':>18}"], ""
    for row in rows:
        if row["measure"] != last:
            last = row["measure"]
            lines.append(last)
        lines.append(
            f"  {row['method']:<{width}}" + "".join(_cell(row[c]).rjust(18) for c in ("first", "best", "last"))
        )
    lines += report.beyond()
    lines.append(f"Training figures are means of {report.window} steps; ± is the 95 % interval over seeds.")
    return "\n".join(lines)


def write(report: Report, out: Path, pngs: Sequence[str] | None = None) -> list[Path]:
    """Draw everything into `out`.

    Args:
        pngs: figures to write as files beside the page, which has them all; None: all of them.

    Returns:
        The files, the page first.

    Raises:
        ValueError: there is no figure of a name in `pngs`.
        OSError: a file cannot be written.
    """
    painter = Painter(report)
    drawn = sections(painter)
    figures = {figure.name: figure for _, group in drawn for figure in group}
    chosen = list(figures) if pngs is None else list(pngs)
    if unknown := [name for name in chosen if name not in figures]:
        raise ValueError(f"no figure {', '.join(unknown)} in this report; it has {', '.join(figures) or 'none'}")
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "report.html"]
    files[0].write_text(page(report, drawn, painter.colour), encoding="utf-8")
    for name in chosen:
        files.append(out / f"{name}.png")
        files[-1].write_bytes(figures[name].png)
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.asymgrpo.report", description="A page, figures and a summary of training runs."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, log file, or a folder of them")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write into (default: report)")
    parser.add_argument(
        "--window", type=int, help="steps to average training figures over (default: 5, or 1/20 of a run)"
    )
    parser.add_argument(
        "--png",
        nargs="*",
        metavar="FIGURE",
        help="figures to write as PNG files too (default: all; without names: none)",
    )
    options = parser.parse_args(arguments)
    if options.window is not None and options.window < 1:
        parser.error("--window: 1 or more")
    runs, problems = find_runs(options.runs)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not runs:
        return 1
    if importlib.util.find_spec("matplotlib") is None:
        print("The figures need matplotlib: pip install matplotlib", file=sys.stderr)
        return 1
    report = build(runs, options.window)
    try:
        files = write(report, options.out, options.png)
    except ValueError as error:
        print(f"--png: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(summary(report))
    for line in _run_lines(report):
        print(line)
    print(f"\nreport of {len(runs)} run{'s' * (len(runs) > 1)}: {files[0]}")
    return 0
