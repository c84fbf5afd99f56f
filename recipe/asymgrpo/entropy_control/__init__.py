"""A floor and a ceiling under a run's entropy, for the advantages of any estimator.

Once a step: the entropy of the policy that sampled is measured over the batch, the levels of the step are looked up,
a rule turns their difference into an action (`rules`), and a way applies it to the advantages (`ways`). Nothing is done
between floor and ceiling. docs/entropy.md says which way when.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from recipe.asymgrpo.entropy_control.config import PATH, WAYS, EntropyControlConfig
from recipe.asymgrpo.entropy_control.rules import State, act, levels

if TYPE_CHECKING:  # the configuration loads without torch
    from torch import Tensor

    from recipe.asymgrpo.entropy_control.ways import Sums

__all__ = ["PATH", "WAYS", "Controlled", "EntropyControlConfig", "State", "control", "mean_entropy"]

PREFIX = "asymgrpo/control/"


class Controlled(NamedTuple):
    """What one step of the control gives.

    Args:
        advantages: (B, T); the given tensor itself where nothing was to be done.
        state: for the next step.
        metrics: to log, named in docs/metrics.md; empty where the batch has no entropy.
    """

    advantages: Tensor
    state: State
    metrics: dict[str, float]


def mean_entropy(log_probs: Tensor, mask: Tensor, entropies: Tensor | None = None) -> float | None:
    """Nats a token over the batch's own tokens; None without a finite one.

    Args:
        log_probs: (B, T) of the sampled tokens, in nats; minus their mean is the estimate where `entropies` is None.
        mask: (B, T) bool.
        entropies: (B, T) of the tokens' distributions, in nats.
    """
    from recipe.asymgrpo.entropy_control.ways import row_sums

    return _mean(row_sums(log_probs, mask), -1) if entropies is None else _mean(row_sums(entropies, mask))


def _mean(sums: Sums, sign: int = 1) -> float | None:
    count = float(sums.tokens.double().sum())
    return sign * float(sums.total.double().sum()) / count if count else None


def control(
    config: EntropyControlConfig,
    state: State,
    progress: float,
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    entropies: Tensor | None = None,
) -> Controlled:
    """One step of the entropy control.

    Args:
        state: after the step before; `State()` before the first.
        progress: of the run, from 0 at its first step to 1 at its last; only levels that fall look at it.
        advantages: (B, T) of any estimator.
        log_probs: (B, T) of the sampled tokens under the policy that sampled, in nats.
        mask: (B, T), non-zero where a token is the model's.
        entropies: (B, T) of the tokens' distributions in nats, where they are known.
    """
    from recipe.asymgrpo.entropy_control.ways import Rows, apply

    batch = Rows(advantages, log_probs, mask.bool(), entropies)  # `bool`: a fourth of the time of `!= 0`
    entropy = _mean(batch.sums, -1) if entropies is None else mean_entropy(log_probs, batch.mask, entropies)
    if entropy is None:
        return Controlled(advantages, state, {})
    if state.reference is None:
        state = replace(state, reference=entropy)
    target = levels(config, state.reference or 0.0, progress)
    action, state = act(config, entropy, target, state)
    changed, saturated = advantages, float(action.saturated)
    if action.value:
        changed, share = apply(config, action.value, batch)
        saturated = share if WAYS[config.way].channels else saturated
    metrics = {
        "entropy": entropy,
        "error": target.error(entropy),
        "action": action.value,
        "saturated": saturated,
        **{name: level for name, level in zip(("floor", "ceiling"), target, strict=True) if level is not None},
    }
    return Controlled(changed, state, {PREFIX + name: float(value) for name, value in metrics.items()})
