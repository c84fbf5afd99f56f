"""The `entropy_modulated` policy loss, in verl's signature."""

from __future__ import annotations

import functools
import logging
import numbers
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recipe.asymgrpo.config import read
from recipe.asymgrpo.pooled import Pooled, covariance, ratio

logger = logging.getLogger(f"verl.{__name__}")

CHANNELS = ("positive", "negative")


def compute_policy_loss_entropy_modulated(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """PPO's clipped surrogate on advantages that keep informative and prune spurious entropy.

    For token t of response i, without gradient::

        dev_it = old_log_prob_it - mean over the response's own tokens of old_log_prob_i
        shape  = -informative_coef * dev_it   where A_it > 0
               = +spurious_coef * dev_it      where A_it < 0
        A'_it  = A_it + clamp(shape, +-modulation_cap * |A_it|)

    Adding ``-kappa * (log pi - baseline)`` to an advantage changes the entropy by ``+eta * kappa * Var(log pi)`` to
    first order (the identity dH = -eta * Cov(log pi, A) of arXiv 2604.04894, section on entropy dynamics; the loss is
    ours, not the paper's). The baseline is the response's own, so the result does not depend on how a batch is cut into
    micro-batches or ranks. With both coefficients 0 this is verl's `vanilla`: loss, gradient and metrics.

    Args:
        old_log_prob: (B, T) log-probabilities under the policy that sampled, in nats.
        log_prob: (B, T) log-probabilities under the current policy, with gradient.
        advantages: (B, T).
        response_mask: (B, T), non-zero where a token is the model's.
        loss_agg_mode: see verl's `agg_loss`; normalised by `config.global_batch_info`.
        config: verl's `ActorConfig`; its `clip_ratio`, `clip_ratio_low`, `clip_ratio_high`, `clip_ratio_c`,
            `use_torch_compile` and `policy_loss` are used. A `policy_loss` that is not ours gives neutral knobs.
        rollout_is_weights: (B, T) importance weights of the rollout correction, or None.

    Returns:
        The scalar loss, and metrics: those of `vanilla`, and for each channel (`positive`: A > 0, `negative`: A < 0)
        below ``actor/<channel>/``: `token_share`, `adv_abs` and `adv_abs_modulated` (|A| and |A'| a token),
        `clipfrac`, `surprisal` (-log pi a token, nats), `logprob_increment` (log pi - log pi_old a token, nats),
        `cov_logprob_adv` (Cov of log pi_old and A over the channel's tokens) and `infinite_share` (tokens without a
        finite log-probability, which the three before leave out). Below ``actor/all/`` are vanilla's `clipfrac`,
        `clipfrac_dual` and `ppo_kl` over all tokens. Each is a :class:`Pooled`: verl's mean over micro-batches and
        ranks gives the value of the whole mini-batch. A channel without tokens gives 0.

    Raises:
        ConfigError: a knob is impossible.
        ValueError: `config` is missing, or `clip_ratio_c` is not above 1.
    """
    if config is None:
        raise ValueError("entropy_modulated: config is missing; verl passes its ActorConfig.")
    from verl.trainer.ppo.core_algos import agg_loss

    from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig

    knobs = EntropyModulatedLossConfig.of(read(config, "policy_loss"))
    low, high = read(config, "clip_ratio_low"), read(config, "clip_ratio_high")
    dual = read(config, "clip_ratio_c")
    dual = 3.0 if dual is None else dual  # verl's own default
    if not dual > 1:
        raise ValueError(f"actor_rollout_ref.actor.clip_ratio_c={dual!r} bounds failures from above 1. Allowed: > 1.")

    info = dict(read(config, "global_batch_info") or {})
    if None not in (info.get("batch_num_tokens"), info.get("global_batch_size")):
        # With both counts agg_loss decides nothing by a number's value, so all of them may be tensors.
        info = {name: _scalar(value) if isinstance(value, numbers.Number) else value for name, value in info.items()}

    compiled = read(config, "use_torch_compile") is not False
    loss, sums = (functools.partial(_compiled, loss_agg_mode) if compiled else loss_and_sums)(
        old_log_prob,
        log_prob,
        advantages,
        response_mask,
        rollout_is_weights,
        informative_coef=_scalar(knobs.informative_coef),
        spurious_coef=_scalar(knobs.spurious_coef),
        # Rounding must not bring a cap close to 1 up to 1.
        cap=_scalar(min(knobs.modulation_cap, 1 - torch.finfo(advantages.dtype).eps)),
        ratio_low=_scalar(1 - (config.clip_ratio if low is None else low), log_prob.device),
        ratio_high=_scalar(1 + (config.clip_ratio if high is None else high), log_prob.device),
        clip_dual=_scalar(dual),
        aggregate=functools.partial(agg_loss, loss_agg_mode=loss_agg_mode, **info),
    )
    return loss, _metrics(sums.tolist())


def _scalar(number: Any, device: Any = "cpu") -> Tensor:
    """() float64 tensor of a knob or a count.

    No Python number whose value may differ between calls or runs enters compiled code: torch 2.8 to 2.14 may bake one
    that reaches an operator's scalar argument, such as clamp's, into a graph whose cache key does not hold it, so that
    a later run trains with an earlier one's (pytorch/pytorch #194976). Nothing is copied between devices: a kernel
    that multiplies takes such a tensor of the CPU as an argument, and on an accelerator one is filled there.
    """
    return torch.full((), float(number), dtype=torch.float64, device=device)


def loss_and_sums(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    rollout_is_weights: Tensor | None,
    *,
    informative_coef: Tensor,
    spurious_coef: Tensor,
    cap: Tensor,
    ratio_low: Tensor,
    ratio_high: Tensor,
    clip_dual: Tensor,
    aggregate: Callable[..., Tensor],
) -> tuple[Tensor, Tensor]:
    """The loss as its definition reads, and the (24,) float64 sums over tokens that the metrics need.

    Positional tensors are (B, T), the knobs (), those of the clip on the ratio's device, the others on the CPU;
    `aggregate` is verl's `agg_loss` for this batch. Runs eagerly or compiled; the sums are one tensor, so that they are
    one transfer.
    """
    mask = response_mask != 0
    known = old_log_prob.isfinite() & log_prob.isfinite()
    modulated = modulate(advantages, old_log_prob, mask, informative_coef, spurious_coef, cap)

    increment = log_prob - old_log_prob
    bounded = increment.clamp(-20.0, 20.0)  # as vanilla, for stability
    probability_ratio = bounded.exp()
    unclipped = -modulated * probability_ratio
    clipped = -modulated * probability_ratio.clamp(ratio_low, ratio_high)
    surrogate = torch.maximum(unclipped, clipped)
    floor = -modulated * clip_dual
    losses = torch.where(modulated < 0, torch.minimum(surrogate, floor), surrogate)
    if rollout_is_weights is not None:
        losses = losses * rollout_is_weights
    # In float64: compiled code adds a hundred thousand numbers one by one, eager code in a tree.
    loss = aggregate(loss_mat=losses.double(), loss_mask=mask)
    loss = loss.to(torch.promote_types(log_prob.dtype, torch.float32))

    with torch.no_grad():
        is_clipped = clipped > unclipped
        is_dual_clipped = (surrogate > floor) & (modulated < 0)
        size = advantages.abs()
        # Rows in the dtype's precision, at least float32 (a product is beyond float16), the few row sums in float64.
        dtype = torch.promote_types(log_prob.dtype, torch.float32)
        totals: list[tuple[Tensor, Tensor | float]] = [
            (mask, 1.0),
            (mask, -bounded),
            (mask & is_clipped, 1.0),
            (mask & is_dual_clipped, 1.0),
        ]
        for channel in (mask & (advantages > 0), mask & (advantages < 0)):
            finite = channel & known
            totals += [
                (channel, 1.0),
                (channel, size),
                (channel, modulated.abs()),
                (channel & is_clipped, 1.0),
                (finite, 1.0),
                (finite, log_prob),
                (finite, increment),
                (finite, old_log_prob),
                (finite, size),
                (finite, old_log_prob.to(dtype) * advantages),
            ]
        rows = [torch.where(where, value, 0.0).to(dtype).sum(-1) for where, value in totals]
        sums = torch.stack(rows).double().sum(-1)
    return loss, sums


@torch.no_grad()
def modulate(
    advantages: Tensor, old_log_prob: Tensor, mask: Tensor, informative_coef: Any, spurious_coef: Any, cap: Any
) -> Tensor:
    """(B, T) A' of the definition, without gradient; its sign is that of `advantages`.

    A token whose log-probability is not finite (top-k sampling, masked logits) is not modulated, nor part of a mean.
    """
    own = mask & old_log_prob.isfinite()
    count = own.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(own, old_log_prob, 0.0).sum(-1, keepdim=True) / count
    deviation = torch.where(own, old_log_prob - mean, 0.0)
    # Knobs on the right: there a () tensor multiplies as a number does, in full precision beside bfloat16 too.
    shape = torch.where(advantages > 0, deviation * -informative_coef, deviation * spurious_coef)
    bound = advantages.abs() * cap
    return advantages + torch.minimum(torch.maximum(shape, -bound), bound)


def _metrics(sums: list[float]) -> dict[str, Any]:
    tokens, kl, clipped, dual_clipped, *channels = sums
    metrics: dict[str, Any] = {  # vanilla's own, with its epsilon and its plain floats
        "actor/pg_clipfrac": clipped / (tokens + 1e-8),
        "actor/ppo_kl": kl / (tokens + 1e-8),
        "actor/pg_clipfrac_lower": dual_clipped / (tokens + 1e-8),
    }
    pooled = {
        "all/clipfrac": Pooled(ratio, (clipped, tokens)),
        "all/clipfrac_dual": Pooled(ratio, (dual_clipped, tokens)),
        "all/ppo_kl": Pooled(ratio, (kl, tokens)),
    }
    width = len(channels) // len(CHANNELS)
    for number, (channel, sign) in enumerate(zip(CHANNELS, (1, -1), strict=True)):
        count, size, modulated, clips, *log_probs = channels[width * number : width * (number + 1)]
        finite, log_prob, increment, old, size_of_finite, old_adv = log_probs
        pooled |= {
            f"{channel}/token_share": Pooled(ratio, (count, tokens)),
            f"{channel}/adv_abs": Pooled(ratio, (size, count)),
            f"{channel}/adv_abs_modulated": Pooled(ratio, (modulated, count)),
            f"{channel}/clipfrac": Pooled(ratio, (clips, count)),
            f"{channel}/surprisal": Pooled(ratio, (-log_prob, finite)),
            f"{channel}/logprob_increment": Pooled(ratio, (increment, finite)),
            f"{channel}/cov_logprob_adv": Pooled(covariance, (old_adv, old, sign * size_of_finite, finite)),
            f"{channel}/infinite_share": Pooled(ratio, (count - finite, count)),
        }
    return metrics | {f"actor/{name}": value.boxed() for name, value in pooled.items()}


@functools.cache
def _compilation(*choice: Any) -> Callable:
    """A compiled copy of `loss_and_sums` for one choice of aggregation and dtypes.

    A copy, because Dynamo stops compiling a code object after eight variants of it, with a warning.
    """
    code = loss_and_sums.__code__.replace()
    copy = types.FunctionType(code, loss_and_sums.__globals__, loss_and_sums.__name__)
    return torch.compile(copy, dynamic=True)


_compile_failures: list[BaseException] = []
"""Why this process does not compile any more. With `_compilation`, the only state in this module."""


def _compiled(loss_agg_mode: str, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """`loss_and_sums`, compiled; eager, after one warning, where this machine cannot compile."""
    if not _compile_failures:
        try:
            dtypes = (None if tensor is None else tensor.dtype for tensor in args)
            return _compilation(loss_agg_mode, *dtypes)(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            result = loss_and_sums(*args, **kwargs)  # an error of the input itself comes out here
            _compile_failures.append(error)
            logger.warning(
                "entropy_modulated: torch.compile failed in this process, so the loss runs uncompiled (slower, same "
                "values). actor_rollout_ref.actor.use_torch_compile=False silences this. Cause: %s: %s",
                *(type(error).__name__, str(error).strip().partition("\n")[0]),
            )
            return result
    return loss_and_sums(*args, **kwargs)
