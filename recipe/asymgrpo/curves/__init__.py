"""From group accuracy to advantages: A = f(p) for a success, A = -g(p) for a failure.

A preset is one pair of curves (f, g) with its boundary rule. Curves get the integer counts of a group, not the
rounded ratio p, and work in float64: there are few groups, so exactness is free.

Boundary rule, where a method's source has none: the formula's own value where it is finite, else 0. No value is NaN,
not even f at p = 0 and g at p = 1, which no response gets.

`python -m recipe.asymgrpo.curves` prints and draws them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # tensor methods are enough: this module, and so the configuration, loads without torch
    from torch import Tensor


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


def fade_dynamic(
    successes: Tensor, sizes: Tensor, *, fade_target: float, entropy: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """`fade` with its two feedbacks (arXiv 2607.01490): alpha from the batch's solve rate P, delta from its entropy H.

        alpha = clip(3 (1 - P) / (2 P), 1, 3)
        delta = clip(1 + H - H*, 0.3, 1), where H* = fade_target times the entropy of the run's first step, in nats

    P and H are this batch's: the source known to us has running averages of a coefficient 0.02 whose direction is open.

    Args:
        entropy: H and that of the first step, in nats a token; None, where they are not known, gives delta = 1.
    """
    solve_rate = _solve_rate(successes, sizes)
    alpha = min(max(1.5 * (1 - solve_rate) / solve_rate, 1.0), 3.0) if solve_rate else 3.0
    now, first = entropy or (0.0, 0.0)
    delta = min(max(1 + now - fade_target * first, 0.3), 1.0)
    return fade(successes, sizes, fade_alpha=alpha, fade_delta=delta)


def a_grae(successes: Tensor, sizes: Tensor, *, agrae_alpha: float) -> tuple[Tensor, Tensor]:
    """A-GRAE (arXiv 2602.05548, equations 11 to 13): GRPO's s, weighted by p and by the batch's solve rate P.

        A = P / 2 * s / sqrt(p) + (1 - P) / 2 * s / sqrt(1 - p), for a success times min(1, P / agrae_alpha)

    As in the paper; its released code has 1 - sqrt(p) for sqrt(1 - p), in a branch that its scripts do not reach. 0
    where p is 0 or 1, as s is.
    """
    p = successes.double() / sizes
    solve_rate = _solve_rate(successes, sizes)
    weight = (solve_rate * _power(p, -0.5) + (1 - solve_rate) * _power(1 - p, -0.5)) / 2
    f, g = two_exponents(successes, sizes, beta_pos=0.5, beta_neg=0.5)
    return min(1.0, solve_rate / agrae_alpha) * weight * f, weight * g


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


def _solve_rate(successes: Tensor, sizes: Tensor) -> float:
    """P, the share of the batch's responses that succeed; 0 without any response."""
    return float(successes.sum()) / max(float(sizes.sum()), 1.0)


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
        needs_entropy: the formula takes `entropy`, the policy's and that of the first step.
    """

    name: str
    doc: str
    arxiv: str
    formula: Callable[..., tuple[Tensor, Tensor]]
    knobs: Mapping[str, float]
    needs_entropy: bool = False


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
        Preset(
            "fade_dynamic",
            "FADE with its alpha from the batch's solve rate P and its delta from the entropy H",
            "2607.01490",
            fade_dynamic,
            {"fade_target": 0.5},
            needs_entropy=True,
        ),
        Preset("a_grae", "GRPO, weighted by p and by the batch's P", "2602.05548", a_grae, {"agrae_alpha": 1.0}),
        Preset("sqrt_r", "sqrt(1 - p) / p and -1 / sqrt(1 - p)", "2602.11128", sqrt_r, {}),
        Preset("qae", "baseline is the rewards' quantile_k quantile", "2509.22611", qae, {"quantile_k": 0.4}),
        Preset("pass_at_k", "GRPO on pass@k instead of pass@1", "2508.10751", pass_at_k, {"pass_k": 4}),
    )
}

CURVE_KNOBS: tuple[str, ...] = tuple(dict.fromkeys(knob for preset in PRESETS.values() for knob in preset.knobs))
"""Every knob that belongs to some preset's formula."""


class Chosen(Protocol):
    """What `AsymGRPOConfig` says of the curves."""

    @property
    def preset(self) -> str: ...
    @property
    def curve_knobs(self) -> Mapping[str, float]: ...


def curves(
    config: Chosen, successes: Tensor, sizes: Tensor, entropy: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """f and g of the configured preset, each (P,) float64, for the P groups of a batch with these (P,) counts.

    Args:
        entropy: of the policy that sampled and of that of the run's first step, in nats a token, for presets that need
            it; None where it is not known.
    """
    preset = PRESETS[config.preset]
    more = {"entropy": entropy} if preset.needs_entropy else {}
    return preset.formula(successes, sizes, **config.curve_knobs, **more)
