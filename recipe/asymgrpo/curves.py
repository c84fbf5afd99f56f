"""From group accuracy to advantages: A = f(p) for a success, A = -g(p) for a failure.

A preset is one pair of curves (f, g) with its boundary rule. Curves get the integer counts of a group, not the
rounded ratio p, and work in float64: there are few groups, so exactness is free.

Boundary rule, where a method's source has none: the formula's own value where it is finite, else 0. No value is NaN,
not even f at p = 0 and g at p = 1, which no response gets.

`python -m recipe.asymgrpo.curves` prints and draws them all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # tensor methods are enough: this module, and so the configuration, loads without torch
    from torch import Tensor

    from recipe.asymgrpo.config import AsymGRPOConfig


def two_exponents(successes: Tensor, sizes: Tensor, *, beta_pos: float, beta_neg: float) -> tuple[Tensor, Tensor]:
    """f(p) = ((1 - p) / p) ** beta_pos and g(p) = (p / (1 - p)) ** beta_neg, the paper's family (arXiv 2604.04894).

    Boundary, at p = 1 for f and at p = 0 for g: the formula's own value where it is finite (0 for a positive exponent,
    1 for exponent 0), and 0 where it diverges (negative exponents). The paper does not state one; this is our choice.

    Args:
        successes: (P,) number of successes in each group.
        sizes: (P,) number of responses in each group.

    Returns:
        f and g, each (P,) float64.
    """
    hits, misses = successes.double(), (sizes - successes).double()
    return _power(misses / hits, beta_pos), _power(hits / misses, beta_neg)


def maxrl(successes: Tensor, sizes: Tensor, *, beta_pos: float, beta_neg: float) -> tuple[Tensor, Tensor]:
    """The two-exponent family with g = 0 at p = 0: an unsolved prompt teaches nothing (arXiv 2602.02710)."""
    f, g = two_exponents(successes, sizes, beta_pos=beta_pos, beta_neg=beta_neg)
    return f, g.masked_fill(successes == 0, 0.0)


def constants(
    successes: Tensor, sizes: Tensor, *, positive_weight: float, negative_weight: float
) -> tuple[Tensor, Tensor]:
    """f = positive_weight and g = negative_weight, also at the boundary: PSR, NSR, W-REINFORCE (arXiv 2506.01347)."""
    one = successes.new_ones(successes.shape).double()
    return positive_weight * one, negative_weight * one


def dr_grpo(successes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """f = 1 - p and g = p: (r - mean), without the division by std (arXiv 2503.20783)."""
    return (sizes - successes).double() / sizes, successes.double() / sizes


def rloo(successes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """f = (1 - p) n / (n - 1) and g = p n / (n - 1): r - mean of the others (arXiv 2402.14740). 0 where n = 1."""
    others, alone = (sizes - 1).double(), sizes == 1
    f, g = (sizes - successes) / others, successes / others
    return f.masked_fill(alone, 0.0), g.masked_fill(alone, 0.0)


def f_grpo(successes: Tensor, sizes: Tensor, *, focal_gamma: float) -> tuple[Tensor, Tensor]:
    """GRPO's curves times (1 - p) ** focal_gamma: easy prompts count less (arXiv 2602.06717)."""
    focus = ((sizes - successes).double() / sizes) ** focal_gamma
    f, g = two_exponents(successes, sizes, beta_pos=0.5, beta_neg=0.5)
    return focus * f, focus * g


def fade(successes: Tensor, sizes: Tensor, *, fade_alpha: float, fade_delta: float) -> tuple[Tensor, Tensor]:
    """f = (1 - p) ** alpha and g = (1 - p) ** (alpha - 1) * p / delta, with constant knobs (arXiv 2607.01490)."""
    p, miss_rate = successes.double() / sizes, (sizes - successes).double() / sizes
    return miss_rate**fade_alpha, _power(miss_rate, fade_alpha - 1) * p / fade_delta


def sqrt_r(successes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """f = sqrt(1 - p) / p and g = 1 / sqrt(1 - p), which is 1 at p = 0 (arXiv 2602.11128)."""
    p, miss_rate = successes.double() / sizes, (sizes - successes).double() / sizes
    return miss_rate.sqrt() * _power(p, -1.0), _power(miss_rate, -0.5)


def qae(successes: Tensor, sizes: Tensor, *, quantile_k: float) -> tuple[Tensor, Tensor]:
    """1 / sqrt(p (1 - p)) for one side only, the other gets 0 (arXiv 2509.22611).

    The rewards' quantile as baseline: hard prompts (p <= 1 - K) teach by successes (f), easy ones by failures (g).
    """
    p = successes.double() / sizes
    value = _power(p * (1 - p), -0.5)
    hard = p + quantile_k <= 1 + 1e-9  # in floats 1 - 0.9 < 0.1
    return value.masked_fill(~hard, 0.0), value.masked_fill(hard, 0.0)


def pass_at_k(successes: Tensor, sizes: Tensor, *, pass_k: int) -> tuple[Tensor, Tensor]:
    """The advantage of pass@k over all subsets of k of the n responses, c of them successes (arXiv 2508.10751).

        rho = 1 - C(n - c, k) / C(n, k)
        f = sqrt((1 - rho) / rho)
        g = [C(n - c - 1, k - 1) / C(n - 1, k - 1) - (1 - rho)] / sqrt(rho (1 - rho))

    The first ratio in g is (1 - rho) / (1 - p), so g = p / (1 - p) * f: nothing large is subtracted. rho in {0, 1}
    gives 0. So does a group of fewer than k responses (samples may have been rejected), where pass@k is not defined:
    it sits out the step, and the estimator warns.
    """
    hits, misses = successes.double(), (sizes - successes).double()
    all_miss = (sizes >= pass_k).double()  # 1 - rho, the product of (misses - i) / (n - i) over i < k
    for i in range(min(pass_k, max(sizes.tolist(), default=0))):
        all_miss = all_miss * (misses - i).clamp_min(0) / (sizes - i).clamp_min(1)
    f = (all_miss / (1 - all_miss)).sqrt().masked_fill(successes == 0, 0.0)
    return f, hits / misses.clamp_min(1) * f


def _power(odds: Tensor, beta: float) -> Tensor:
    value = odds**beta
    # Only the pole itself becomes 0; a power of finite odds too large for float64 stays inf for the caller to bound.
    pole = value.isinf() & ((odds == 0) | odds.isinf())
    return value.masked_fill(pole, 0.0)


@dataclass(frozen=True)
class Preset:
    """A named pair of curves.

    Args:
        name: what stands in `algorithm.asym_grpo.preset`.
        doc: one line for people.
        arxiv: where it comes from.
        formula: (successes (P,), sizes (P,), **knobs) -> (f (P,), g (P,)), boundary rule included.
        knobs: the formula's knobs with this preset's values; each is a field of `AsymGRPOConfig`.
    """

    name: str
    doc: str
    arxiv: str
    formula: Callable[..., tuple[Tensor, Tensor]]
    knobs: Mapping[str, float]


def _exponents(
    name: str, beta_pos: float, beta_neg: float, doc: str, arxiv: str = "2604.04894", formula: Callable = two_exponents
) -> Preset:
    return Preset(name, doc, arxiv, formula, {"beta_pos": beta_pos, "beta_neg": beta_neg})


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _exponents("asymgrpo", 0.9, 0.4, "the paper's choice"),
        _exponents("grpo", 0.5, 0.5, "GRPO: (r - mean) / population std, no epsilon", "2402.03300"),
        _exponents("reinforce", 0.0, 0.0, "+1 for a success, -1 for a failure"),
        _exponents("pos_only", 0.5, 0.0, "GRPO's curve on successes only: keeps informative entropy"),
        _exponents("neg_only", 0.0, 0.5, "GRPO's curve on failures only: removes spurious entropy"),
        _exponents("ent_decrease", -0.5, 0.5, "GRPO with the positive curve mirrored in p (our reading)"),
        _exponents("ent_increase", 0.5, -0.5, "GRPO with the negative curve mirrored in p (our reading)"),
        _exponents("maxrl", 1.0, 0.0, "maximum-likelihood RL; 0 where no response succeeds", "2602.02710", maxrl),
        Preset(
            "psr",
            "+1 for a success, nothing for a failure",
            "2506.01347",
            partial(constants, positive_weight=1.0, negative_weight=0.0),
            {},
        ),
        Preset(
            "nsr",
            "nothing for a success, -1 for a failure",
            "2506.01347",
            partial(constants, positive_weight=0.0, negative_weight=1.0),
            {},
        ),
        Preset(
            "w_reinforce",
            "positive_weight for a success, -1 for a failure",
            "2506.01347",
            partial(constants, negative_weight=1.0),
            {"positive_weight": 0.1},
        ),
        Preset("dr_grpo", "r - mean", "2503.20783", dr_grpo, {}),
        Preset("rloo", "r - mean of the other responses", "2402.14740", rloo, {}),
        Preset("f_grpo", "GRPO times (1 - p) ** focal_gamma", "2602.06717", f_grpo, {"focal_gamma": 1.0}),
        Preset("fade", "FADE with constant knobs", "2607.01490", fade, {"fade_alpha": 2.0, "fade_delta": 1.0}),
        Preset("sqrt_r", "sqrt(1 - p) / p and -1 / sqrt(1 - p)", "2602.11128", sqrt_r, {}),
        Preset("qae", "baseline is the rewards' quantile_k quantile", "2509.22611", qae, {"quantile_k": 0.4}),
        Preset("pass_at_k", "GRPO on pass@k instead of pass@1", "2508.10751", pass_at_k, {"pass_k": 4}),
    )
}

CURVE_KNOBS: tuple[str, ...] = tuple(dict.fromkeys(knob for preset in PRESETS.values() for knob in preset.knobs))
"""Every knob that belongs to some preset's formula."""


def curves(config: AsymGRPOConfig, successes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """f and g of the configured preset, each (P,) float64, for P groups with these (P,) counts."""
    return PRESETS[config.preset].formula(successes, sizes, **config.curve_knobs)


# --- python -m recipe.asymgrpo.curves ---

PANELS: dict[str, tuple[str, ...]] = {
    "two exponents": (
        *("asymgrpo", "grpo", "reinforce", "pos_only", "neg_only", "ent_decrease", "ent_increase", "maxrl"),
    ),
    "constant, or r - baseline": ("psr", "nsr", "w_reinforce", "dr_grpo", "rloo"),
    "weighted by difficulty": ("f_grpo", "fade", "sqrt_r", "qae", "pass_at_k"),
}
"""The picture's columns."""

_DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 1, 1, 1)))


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
        f, g = _evaluate(preset, counts, group_size)
        values = f if success else [0.0 - value for value in g]
        nobody = 0 if success else group_size  # with so many successes no response of this kind exists
        cells = (f"{'.':>9}" if c == nobody else f"{value:9.3f}" for c, value in zip(counts, values, strict=True))
        yield f"  {preset:<14}" + "".join(cells)


def _evaluate(preset: str, successes: Sequence[float], group_size: int) -> tuple[list[float], list[float]]:
    import torch

    from recipe.asymgrpo.config import AsymGRPOConfig

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
    options = parser.parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
