"""What an action does to the advantages of a step: one pure function a way, by rows.

Shapes: B rows, T tokens. Each way takes `value` (`rules.Action.value`, above 0 to raise the entropy) and some rows, and
returns new advantages for them. Tokens whose log-probability is not finite (top-k sampling, masked logits) are left as
they are, by all but `filter`, which looks at no token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recipe.asymgrpo.entropy_control.config import WAYS, EntropyControlConfig
from recipe.asymgrpo.policy_loss import modulate

LIKELY = 0.95
VALUES_AT_ONCE = 2**17


@dataclass(frozen=True)
class Rows:
    """A batch, or some rows of it.

    Args:
        advantages: (B, T).
        log_probs: (B, T) of the sampled tokens under the policy that sampled, in nats.
        mask: (B, T) bool, the model's own tokens.
        entropies: (B, T) of the tokens' distributions in nats, or None where they are not known.
    """

    advantages: Tensor
    log_probs: Tensor
    mask: Tensor
    entropies: Tensor | None = None

    @property
    def known(self) -> Tensor:
        """(B, T) bool: own tokens with a finite log-probability."""
        return self.mask & self.log_probs.isfinite()

    @property
    def likely(self) -> Tensor:
        """(B, T) bool: of those, the ones of a probability above 0.95."""
        return self.known & (self.log_probs > math.log(LIKELY))

    def __getitem__(self, rows: slice) -> Rows:
        entropies = None if self.entropies is None else self.entropies[rows]
        return Rows(self.advantages[rows], self.log_probs[rows], self.mask[rows], entropies)


def blocks(values: Tensor) -> Iterator[slice]:
    """Rows of (B, T), some at a time, so that what is computed in between stays in the processor's cache."""
    at_once = max(1, VALUES_AT_ONCE // max(values.shape[1], 1))
    for start in range(0, len(values), at_once):
        yield slice(start, start + at_once)


@torch.no_grad()
def apply(config: EntropyControlConfig, value: float, batch: Rows) -> tuple[Tensor, float]:
    """New (B, T) advantages, and of those that changed the share that `modulation_cap` would let change no further."""
    way, bounded = APPLY[config.way], WAYS[config.way].channels
    if way is weights:  # its authors' mean is over the likely tokens only, those of the whole batch
        value *= max(float(batch.mask.sum()), 1.0) / max(float(batch.likely.sum()), 1.0)
    changed, moved, capped = torch.empty_like(batch.advantages), 0, 0
    for part in blocks(changed):
        rows = batch[part]
        changed[part] = after = way(config, value, rows)
        if bounded:
            change = (after - rows.advantages).abs_()
            moved += int(change.count_nonzero())
            capped += int((change > rows.advantages.abs() * (config.modulation_cap * (1 - 1e-3))).count_nonzero())
    return changed, capped / moved if moved else 0.0


def channels(config: EntropyControlConfig, value: float, rows: Rows) -> Tensor:
    """The modulation of `recipe.asymgrpo.policy_loss`, with a coefficient of either sign on the chosen channels.

    To first order, -value * (log pi - its response's mean) added to A changes the entropy by + value times the variance
    of log pi along those tokens, whichever the sign of A is: the two channels differ in where that happens.
    """
    of_successes = value if config.way in ("successes", "both") else 0.0
    of_failures = -value if config.way in ("failures", "both") else 0.0  # `modulate` blames there
    return modulate(rows.advantages, rows.log_probs, rows.mask, of_successes, of_failures, config.modulation_cap)


def bonus(config: EntropyControlConfig, value: float, rows: Rows) -> Tensor:
    """A - value * (log pi + H), where H is the entropy of the token's distribution.

    The expectation of -(log pi + H) grad log pi over a token's distribution is the gradient of H: so in the first
    update on a batch, before PPO clips, this is in expectation the gradient of a bonus `value` * H a token,
    without the sampling noise of H's own estimate but with that of the token. In later mini-batches it is the old
    policy's, and PPO clips it with the rest. Without per-token entropies the mean of -log pi over the response's own
    tokens stands for H: a baseline, so the expectation is as before but for the token's own part in that mean.
    """
    known, entropies = rows.known, rows.entropies
    if entropies is None:
        count = known.sum(-1, keepdim=True).clamp(min=1)
        entropies = -torch.where(known, rows.log_probs, 0.0).sum(-1, keepdim=True) / count
    return rows.advantages - value * torch.where(known, rows.log_probs + entropies, 0.0).to(rows.advantages.dtype)


def repo(config: EntropyControlConfig, value: float, rows: Rows) -> Tensor:
    """REPO-R (arXiv 2603.11682): A (1 - zeta log pi) of successes, A (1 + zeta log pi) of failures, signs kept.

    log pi is the current policy's there, that of the policy that sampled here; at least -20, as in SkyRL's code of it.
    """
    log_probs = torch.where(rows.known, rows.log_probs.clamp(min=-20), 0.0).to(rows.advantages.dtype)
    return rows.advantages * (1 - value * log_probs * rows.advantages.sign()).clamp(min=0)


def weights(config: EntropyControlConfig, value: float, rows: Rows) -> Tensor:
    """EntroPIC (arXiv 2511.15248): A - value |A| on tokens of a probability above 0.95; its alpha is -value times their
    share of all tokens, by which `apply` has divided.

    Its code adds a loss of its own that is the mean over those tokens only, hence the division; there they are those of
    the current policy and the ratio is not clipped, here of the policy that sampled, and PPO clips.
    """
    return torch.where(rows.likely, rows.advantages - value * rows.advantages.abs(), rows.advantages)


def leave_out(config: EntropyControlConfig, value: float, rows: Rows) -> Tensor:
    """Entrocraft (arXiv 2604.26326, Algorithm 1): 0 for successes (value 1) or failures (value -1).

    The others keep their advantages, as in the paper (its code then takes their plain rewards). The paper's mean is
    over those that are left; here, as in its code, over all.
    """
    return rows.advantages.clamp(max=0) if value > 0 else rows.advantages.clamp(min=0)


APPLY: dict[str, Callable[[EntropyControlConfig, float, Rows], Tensor]] = {
    **{name: channels for name, way in WAYS.items() if way.channels},
    "bonus": bonus,
    "repo": repo,
    "weights": weights,
    "filter": leave_out,
}
