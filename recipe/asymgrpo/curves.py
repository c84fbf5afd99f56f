"""From group accuracy to advantages: A = f(p) for a success, A = -g(p) for a failure.

A preset is one pair of curves (f, g) with its boundary rule. Curves get the integer counts of a group, not the
rounded ratio p, and work in float64: there are few groups, so exactness is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    )
}


def curves(config: AsymGRPOConfig, successes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """f and g of the configured preset, each (P,) float64, for P groups with these (P,) counts."""
    return PRESETS[config.preset].formula(successes, sizes, **config.curve_knobs)
