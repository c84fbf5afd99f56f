"""Prints and draws the advantages of every preset: `python -m recipe.asymgrpo.curves`.

Presets that look at the whole batch are shown for one whose solve rate P is 1/2 and whose entropy is at its target.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from recipe.asymgrpo.config import AsymGRPOConfig
from recipe.asymgrpo.curves import PRESETS, curves

PANELS: dict[str, tuple[str, ...]] = {
    "two exponents": (
        *("asymgrpo", "grpo", "reinforce", "pos_only", "neg_only", "ent_decrease", "ent_increase", "maxrl"),
    ),
    "constant, or r - baseline": ("psr", "nsr", "w_reinforce", "dr_grpo", "rloo"),
    "weighted by difficulty": ("f_grpo", "fade", "fade_dynamic", "a_grae", "sqrt_r", "qae", "pass_at_k"),
}
"""The picture's columns."""

_DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 1, 1, 1)))


_TWO_EXPONENTS = ("((1-p)/p)^beta_pos", "(p/(1-p))^beta_neg")
FORMULAS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(PANELS["two exponents"], _TWO_EXPONENTS),
    "maxrl": (_TWO_EXPONENTS[0], f"{_TWO_EXPONENTS[1]}, and 0 at p = 0"),
    "psr": ("1", "0"),
    "nsr": ("0", "1"),
    "w_reinforce": ("positive_weight", "1"),
    "dr_grpo": ("1 - p", "p"),
    "rloo": ("(1 - p) n/(n-1)", "p n/(n-1); 0 at n = 1"),
    "f_grpo": ("(1 - p)^focal_gamma sqrt((1-p)/p)", "(1 - p)^focal_gamma sqrt(p/(1-p))"),
    "fade": ("(1 - p)^fade_alpha", "(1 - p)^(fade_alpha - 1) p / fade_delta"),
    "fade_dynamic": (
        "(1 - p)^alpha, alpha = clip(3 (1-P)/(2 P), 1, 3)",
        "(1 - p)^(alpha - 1) p / delta, delta = clip(1 + H - H*, 0.3, 1)",
    ),
    "a_grae": (
        "min(1, P/agrae_alpha) w sqrt((1-p)/p), w = (P/sqrt(p) + (1-P)/sqrt(1-p))/2",
        "w sqrt(p/(1-p))",
    ),
    "sqrt_r": ("sqrt(1 - p)/p", "1/sqrt(1 - p)"),
    "qae": ("1/sqrt(p(1-p)) if p <= 1 - quantile_k, else 0", "0 if p <= 1 - quantile_k, else 1/sqrt(p(1-p))"),
    "pass_at_k": ("sqrt((1-rho)/rho), rho = 1 - C(n-c, pass_k)/C(n, pass_k)", "p/(1-p) sqrt((1-rho)/rho)"),
}
"""f(p) and g(p) of each preset, for people."""


def markdown() -> str:
    """All presets as the table of docs/methods.md."""
    lines = ["| preset | f(p), of a success | g(p), of a failure | its knobs | | source |", "|---|---|---|---|---|---|"]
    for name, preset in PRESETS.items():
        knobs = ", ".join(f"`{knob}` {value:g}" for knob, value in preset.knobs.items())
        source = f"[{preset.arxiv}](https://arxiv.org/abs/{preset.arxiv})"
        lines.append(f"| `{name}` | {FORMULAS[name][0]} | {FORMULAS[name][1]} | {knobs} | {preset.doc} | {source} |")
    return "\n".join(lines)


def table(group_size: int, columns: int = 9) -> str:
    """A of a success and of a failure, for every preset and every number of successes; `columns` counts a line."""
    return "\n\n".join(
        "\n".join(_table_lines(success, group_size, range(first, min(first + columns, group_size + 1))))
        for success in (True, False)
        for first in range(0, group_size + 1, columns)
    )


def _table_lines(success: bool, group_size: int, counts: range) -> Iterator[str]:
    title = "A of a success" if success else "A of a failure"
    yield f"{title:<16}" + "".join(f"{f'{c}/{group_size}':>9}" for c in counts)
    for preset in PRESETS:
        f, g = _evaluate(preset, range(group_size + 1), group_size)  # all, for those that look at the batch
        values = [f[c] if success else 0.0 - g[c] for c in counts]
        nobody = 0 if success else group_size  # with so many successes no response of this kind exists
        cells = (f"{'.':>9}" if c == nobody else f"{value:9.3f}" for c, value in zip(counts, values, strict=True))
        yield f"  {preset:<14}" + "".join(cells)


def _evaluate(preset: str, successes: Sequence[float], group_size: int) -> tuple[list[float], list[float]]:
    sizes = torch.full((len(successes),), group_size)
    f, g = curves(AsymGRPOConfig(preset), torch.tensor(successes, dtype=torch.float64), sizes)
    return f.tolist(), g.tolist()


def draw(group_size: int, path: Path) -> None:
    """All presets into one PNG: f above, g below, a column for each kind of formula; dots at the counts that occur."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(PANELS), figsize=(16, 9), sharex=True, sharey=True, constrained_layout=True)
    figure.suptitle(f"Advantage by group accuracy: every preset of asym_grpo, {group_size} responses a group", size=18)
    for column, (title, presets) in zip(axes.T, PANELS.items(), strict=True):
        column[0].set_title(title, size=15)
        for number, preset in enumerate(presets):
            _draw_preset(column, preset, group_size, number)
        column[1].set_xlabel("p, share of the group that succeeds", size=13)
        handles, labels = column[0].get_legend_handles_labels()
        column[1].legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=13)
    for axis, label in zip(axes[:, 0], ("success:  A = f(p)", "failure:  A = -g(p),  drawn: g"), strict=True):
        axis.set_ylabel(label, size=14)
        # Linear near 0, logarithmic far from it: diverging curves leave room for the others.
        axis.set_yscale("asinh", linear_width=0.5)
        axis.set_ylim(-0.05, 16)
        axis.set_yticks([0, 0.25, 0.5, 1, 2, 4, 8, 16], ["0", "0.25", "0.5", "1", "2", "4", "8", "16"])
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _draw_preset(axes: Any, preset: str, group_size: int, number: int) -> None:
    steps = 100
    smooth = [i / steps for i in range(1, group_size * steps)]  # the formulas take fractions of a success as well
    whole = list(range(1, group_size))
    style = {"color": f"C{number}", "linewidth": 3.5 - 0.25 * number}  # later lines do not hide earlier ones
    for axis, line, dots in zip(
        axes, _evaluate(preset, smooth, group_size), _evaluate(preset, whole, group_size), strict=True
    ):
        axis.plot([c / group_size for c in smooth], line, linestyle=_DASHES[number], label=preset, **style)
        axis.plot([c / group_size for c in whole], dots, "o", markersize=4, color=style["color"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.asymgrpo.curves", description="Prints and draws the advantages of every preset."
    )
    parser.add_argument("--group-size", type=int, default=8, help="responses to a prompt (default: 8)")
    parser.add_argument(
        "--out", type=Path, default=Path("asym_grpo_curves.png"), help="the picture (default: %(default)s)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/methods.md instead")
    options = parser.parse_args(arguments)
    if options.markdown:
        print(markdown())
        return 0
    if options.group_size < 1:
        parser.error(f"--group-size must be 1 or more, got {options.group_size}")
    print(table(options.group_size))
    try:
        draw(options.group_size, options.out)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print("\nNo picture: matplotlib is not installed. Run: pip install matplotlib", file=sys.stderr)
        return 1
    print(f"\npicture: {options.out}")
    return 0
