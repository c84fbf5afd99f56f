"""A floor and a ceiling under a run's entropy, for the advantages of any estimator.

Once a step: the entropy of the policy that sampled is measured over the batch, the levels of the step are looked up,
a rule turns their difference into an action (`rules`), and a way applies it to the advantages (`ways`). Nothing is done
between floor and ceiling. docs/entropy.md says which way when.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from recipe.asymgrpo.entropy_control.config import PATH, WAYS, EntropyControlConfig
from recipe.asymgrpo.entropy_control.rules import State, act, levels

if TYPE_CHECKING:  # the configuration loads without torch
    from torch import Tensor

__all__ = ["PATH", "WAYS", "Controlled", "EntropyControlConfig", "State", "control", "mean_entropy"]

PREFIX = "asymgrpo/control/"
VALUES_AT_ONCE = 2**17


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
    values, sign = (log_probs, -1.0) if entropies is None else (entropies, 1.0)
    count = int(mask.sum())
    total = float(values.where(mask, 0.0).float().sum(-1).double().sum())
    if not math.isfinite(total):  # rare, and several passes more
        mask = mask & values.isfinite()
        count, total = int(mask.sum()), float(values.where(mask, 0.0).float().sum(-1).double().sum())
    return sign * total / count if count else None


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
    import torch

    from recipe.asymgrpo.entropy_control.ways import APPLY

    own = mask != 0
    entropy = mean_entropy(log_probs, own, entropies)
    if entropy is None:
        return Controlled(advantages, state, {})
    if state.reference is None:
        state = replace(state, reference=entropy)
    target = levels(config, state.reference or 0.0, progress)
    action, state = act(config, entropy, target, state)
    changed, saturated = advantages, float(action.saturated)
    if action.value:
        with torch.no_grad():
            if WAYS[config.way].channels:
                changed, saturated = _modulated(config, action.value, advantages, log_probs, own)
            else:
                changed = APPLY[config.way](config, action.value, advantages, log_probs, own, entropies)
    metrics = {
        "entropy": entropy,
        "error": target.error(entropy),
        "action": action.value,
        "saturated": saturated,
        **{name: level for name, level in zip(("floor", "ceiling"), target, strict=True) if level is not None},
    }
    return Controlled(changed, state, {PREFIX + name: float(value) for name, value in metrics.items()})


def _modulated(
    config: EntropyControlConfig, value: float, advantages: Tensor, log_probs: Tensor, mask: Tensor
) -> tuple[Tensor, float]:
    """The advantages, and the share of the changed tokens whose change is all that the cap allows.

    Some rows at a time, so that what is in between stays in the processor's cache: three times as fast.
    """
    import torch

    from recipe.asymgrpo.entropy_control.ways import channels

    changed, moved, capped = torch.empty_like(advantages), 0, 0
    rows_at_once = max(1, VALUES_AT_ONCE // max(advantages.shape[1], 1))
    for start in range(0, len(advantages), rows_at_once):
        rows = slice(start, start + rows_at_once)
        before = advantages[rows]
        after = channels(config, value, before, log_probs[rows], mask[rows], None)
        change = (after - before).abs_()
        moved += int(change.count_nonzero())
        capped += int((change > before.abs() * (config.modulation_cap * (1 - 1e-3))).sum())
        changed[rows] = after
    return changed, capped / moved if moved else 0.0
