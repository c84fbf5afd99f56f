"""What an action does to the advantages of a step: one pure function a way.

Shapes: B rows, T tokens. Each takes `value` (`rules.Action.value`, above 0 to raise the entropy), the advantages, the
log-probabilities of the sampled tokens under the policy that sampled (nats), a bool mask of the model's tokens, and
what is in `EntropyControlConfig`; each returns new (B, T) advantages. Tokens whose log-probability is not finite (top-k
sampling, masked logits) are left as they are, by all but `filter`, which looks at no token.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from recipe.asymgrpo.entropy_control.config import EntropyControlConfig
from recipe.asymgrpo.policy_loss import modulate

LIKELY = 0.95


def channels(
    config: EntropyControlConfig,
    value: float,
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    entropies: Tensor | None,
) -> Tensor:
    """The modulation of `recipe.asymgrpo.policy_loss`, with a coefficient of either sign on the chosen channels.

    To first order, -value * (log pi - its response's mean) added to A changes the entropy by + value times the variance
    of log pi along those tokens, whichever the sign of A is: the two channels differ in where that happens.
    """
    of_successes = value if config.way in ("successes", "both") else 0.0
    of_failures = -value if config.way in ("failures", "both") else 0.0  # `modulate` blames there
    return modulate(advantages, log_probs, mask, of_successes, of_failures, config.modulation_cap)


def bonus(
    config: EntropyControlConfig,
    value: float,
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    entropies: Tensor | None,
) -> Tensor:
    """A - value * (log pi + H), where H is the entropy of the token's distribution.

    The expectation of -(log pi + H) grad log pi over a token's distribution is the gradient of H: so in the first
    update on a batch, before PPO clips, this is in expectation the gradient of a bonus `value` * H a token,
    without the sampling noise of H's own estimate but with that of the token. In later mini-batches it is the old
    policy's, and PPO clips it with the rest. Without per-token entropies the mean of -log pi over the response's own
    tokens stands for H: a baseline, so the expectation is as before but for the token's own part in that mean.
    """
    own = mask & log_probs.isfinite()
    if entropies is None:
        count = own.sum(-1, keepdim=True).clamp(min=1)
        entropies = -torch.where(own, log_probs, 0.0).sum(-1, keepdim=True) / count
    return advantages - value * torch.where(own, log_probs + entropies, 0.0).to(advantages.dtype)


def repo(
    config: EntropyControlConfig,
    value: float,
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    entropies: Tensor | None,
) -> Tensor:
    """REPO-R (arXiv 2603.11682): A (1 - zeta log pi) of successes, A (1 + zeta log pi) of failures, signs kept.

    log pi is the current policy's there, that of the policy that sampled here; at least -20, as in SkyRL's code of it.
    """
    known = torch.where(mask & log_probs.isfinite(), log_probs.clamp(min=-20), 0.0).to(advantages.dtype)
    return advantages * (1 - value * known * advantages.sign()).clamp(min=0)


def weights(
    config: EntropyControlConfig,
    value: float,
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    entropies: Tensor | None,
) -> Tensor:
    """EntroPIC (arXiv 2511.15248): A - value / h |A| on tokens of a probability above 0.95, h their share of all.

    Its alpha is -value. Its code adds a loss of its own that is the mean over those tokens only, hence h; there they
    are those of the current policy and the ratio is not clipped, here of the policy that sampled, and PPO clips.
    """
    likely = mask & log_probs.isfinite() & (log_probs > math.log(LIKELY))
    share = float(likely.sum()) / max(float(mask.sum()), 1.0)
    return torch.where(likely, advantages - value / max(share, 1e-9) * advantages.abs(), advantages)


def leave_out(
    config: EntropyControlConfig,
    value: float,
    advantages: Tensor,
    log_probs: Tensor,
    mask: Tensor,
    entropies: Tensor | None,
) -> Tensor:
    """Entrocraft (arXiv 2604.26326, Algorithm 1): 0 for successes (value 1) or failures (value -1).

    The others keep their advantages, as in the paper (its code then takes their plain rewards). The paper's mean is
    over those that are left; here, as in its code, over all.
    """
    return advantages.clamp(max=0) if value > 0 else advantages.clamp(min=0)


APPLY: dict[str, Callable[..., Tensor]] = {
    "successes": channels,
    "failures": channels,
    "both": channels,
    "bonus": bonus,
    "repo": repo,
    "weights": weights,
    "filter": leave_out,
}
