"""What an action does to the advantages of a step: one pure function a way, and one for the ways that are channels.

Shapes: B rows, T tokens. Each takes `value` (`rules.Action.value`, above 0 to raise the entropy); a way of `APPLY` some
rows, for which it returns new advantages, `channels` the batch. Tokens whose log-probability is not finite (top-k
sampling, masked logits) are left as they are, by all but `filter`, which looks at no token.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recipe.asymgrpo.entropy_control.config import WAYS, EntropyControlConfig

LIKELY = 0.95
VALUES_AT_ONCE = 2**20


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

    @functools.cached_property
    def sums(self) -> Sums:
        """Of the log-probabilities, taken once: the measure of the entropy and the channels want them."""
        return row_sums(self.log_probs, self.mask)

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


def at_once(values: Tensor) -> int:
    """How many rows of (B, T) make a block, so that what is computed in between stays in the processor's cache."""
    return max(1, VALUES_AT_ONCE // max(values.shape[1], 1))


def blocks(values: Tensor) -> Iterator[slice]:
    """The rows of (B, T), `at_once` at a time."""
    for start in range(0, len(values), at_once(values)):
        yield slice(start, start + at_once(values))


def room(tensors: int, *values: Tensor) -> Tensor:
    """(tensors, rows of a block, T), empty, for numbers made of (B, T) values, in float32 or more.

    Fresh memory for every block would take longer than the arithmetic.
    """
    dtype = functools.reduce(torch.promote_types, (each.dtype for each in values), torch.float32)
    like = values[0]
    return torch.empty(tensors, min(len(like), at_once(like)), like.shape[1], dtype=dtype, device=like.device)


class Sums(NamedTuple):
    """Over each row's own finite values.

    Args:
        total: (B, 1).
        tokens: (B, 1), how many they are.
        all_finite: whether no value of the batch had to be left out for not being finite, padding with it.
    """

    total: Tensor
    tokens: Tensor
    all_finite: bool


@torch.no_grad()
def row_sums(values: Tensor, mask: Tensor) -> Sums:
    """Of (B, T) values where the (B, T) bool mask is set.

    Products with numbers, for `torch.where` and `isfinite` take ten times as long.
    """
    memory, all_finite = room(2, values), True
    total, tokens = memory.new_empty(2, len(values), 1)
    for part in blocks(values):
        found, ones = memory[:, : len(values[part])]
        ones.copy_(mask[part].view(torch.uint8))
        torch.sum(torch.mul(values[part], ones, out=found), -1, keepdim=True, out=total[part])
        if not total[part].sum().isfinite():
            all_finite = False
            own = mask[part] & values[part].isfinite()
            ones.copy_(own)
            total[part] = found.copy_(torch.where(own, values[part], 0.0)).sum(-1, keepdim=True)
        torch.sum(ones, -1, keepdim=True, out=tokens[part])
    return Sums(total, tokens, all_finite)


@torch.no_grad()
def apply(config: EntropyControlConfig, value: float, batch: Rows) -> tuple[Tensor, float]:
    """New (B, T) advantages, and the size of their change as a share of what `modulation_cap` allows; 0 of others."""
    if WAYS[config.way].channels:
        return channels(config, value, batch)
    way, changed = APPLY[config.way], torch.empty_like(batch.advantages)
    if way is weights:  # its authors' mean is over the likely tokens only, those of the whole batch
        value *= max(float(batch.mask.sum()), 1.0) / max(float(batch.likely.sum()), 1.0)
    for part in blocks(changed):
        changed[part] = way(config, value, batch[part])
    return changed, 0.0


REACHED: dict[str, Callable[[Tensor], Tensor]] = {
    "successes": lambda advantages: advantages.amax(-1) > 0,
    "failures": lambda advantages: advantages.amin(-1) < 0,
    "both": lambda advantages: advantages.any(-1),
}
"""(B,) bool: the rows with a token of the way's channels."""


def size_of(way: str, advantages: Tensor, out: Tensor) -> Tensor:
    """The size of the advantages of the way's channels, 0 for the others."""
    if way == "successes":
        return torch.clamp(advantages, min=0, out=out)
    return torch.abs(advantages, out=out) if way == "both" else torch.neg(advantages, out=out).clamp_(min=0)


def channels(config: EntropyControlConfig, value: float, batch: Rows) -> tuple[Tensor, float]:
    """The modulation of `recipe.asymgrpo.policy_loss`, with a coefficient of either sign on the chosen channels; what
    `apply` returns.

    To first order, -value * (log pi - its response's mean) added to A changes the entropy by + value times the variance
    of log pi along those tokens, whichever the sign of A is: the two channels differ in where that happens.

    Not by `modulate` itself, which is compiled inside the loss: here, where it is not, it takes three times as long.
    """
    changed, allowed, done = torch.empty_like(batch.advantages), 0.0, 0.0
    memory, cap = room(4, changed, batch.log_probs), config.modulation_cap
    total, tokens, all_finite = batch.sums
    means = total / tokens.clamp(min=1)
    for part in blocks(changed):
        rows = batch[part]
        changed[part] = rows.advantages
        # The rows with a token of the channels: with outcome rewards half of them, or less.
        chosen = REACHED[config.way](rows.advantages).nonzero().squeeze(-1)
        if not cap or not len(chosen):
            continue
        advantages, log_probs, ones, bound = memory[:, : len(chosen)]
        torch.index_select(rows.advantages.to(memory.dtype), 0, chosen, out=advantages)
        torch.index_select(rows.log_probs.to(memory.dtype), 0, chosen, out=log_probs)
        ones.copy_(rows.mask.index_select(0, chosen).view(torch.uint8))
        if not all_finite:
            ones.mul_(log_probs.isfinite())
            log_probs.nan_to_num_(0.0, 0.0, 0.0)
        size_of(config.way, advantages, bound).mul_(ones)
        change = log_probs.sub_(means[part].index_select(0, chosen)).mul_(-value / cap)
        change = torch.clamp(change, torch.neg(bound, out=ones), bound, out=change)
        changed[part].index_copy_(0, chosen, advantages.add_(change, alpha=cap).to(changed.dtype))
        allowed, done = allowed + float(bound.sum()), done + float(change.abs_().sum())
    return changed, done / allowed if allowed else 1.0  # nothing to change, as in a batch without a contrast


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
    "bonus": bonus,
    "repo": repo,
    "weights": weights,
    "filter": leave_out,
}
