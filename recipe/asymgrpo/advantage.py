"""The `asym_grpo` advantage estimator, in verl's signature."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recipe.asymgrpo.config import NO_SIGNAL_STEPS, PATH, AsymGRPOConfig, ConfigError, read
from recipe.asymgrpo.curves import PRESETS, curves
from recipe.asymgrpo.groups import Groups, counted_rows, form_groups

# Below verl's logger: its lines reach the user's terminal, while some process may set the root logger to ERROR (V1's
# TaskRunner does).
logger = logging.getLogger(f"verl.{__name__}")

_warned: set[str] = set()
"""Which warnings this process has given: each is given once per run."""

_steps_without_signal = 0
"""How many calls, up to the last, had no advantage but 0."""

observers: list[Callable[[Groups, Tensor, Tensor, Any], None]] = []
"""Called after every estimate with the groups, the (N,) advantages of their rows, the (B, T) mask and verl's
`config.algorithm`, for diagnostics (verl_ext.driver_metrics). They must not raise and must change nothing."""

find_config: Callable[[], Any] | None = None
"""Asked for verl's `config.algorithm` where a call comes without one (verl_ext.configuration)."""

find_entropy: Callable[[int], tuple[float, float] | None] | None = None
"""Asked, by presets that need it, for the entropy of the policy that sampled the B rows and for that of the run's first
step, in nats a token (verl_ext.entropy_control)."""

find_verdicts: Callable[[str, int], Sequence[Any] | None] | None = None
"""Asked for the B values of `success_key` where a call comes without them (verl_ext.verdicts)."""


@torch.no_grad()
def compute_asym_grpo_advantage(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    index: Any = None,
    config: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """AsymGRPO: one scalar a response, from the accuracy p of its group (arXiv 2604.04894, the estimator).

        success:  A = + ((1 - p) / p) ** beta_pos
        failure:  A = - (p / (1 - p)) ** beta_neg

    A success is a score above `success_threshold`: the sum of a row's rewards, or with `success_key` what the reward
    function returned under that name, so that shaping the reward changes no advantage. Only rows with at least one
    token in the mask count; the others get 0. Boundary groups and the other presets: see `recipe.asymgrpo.curves`.
    |A| never exceeds `max_abs_advantage`, nor the largest finite number of the dtype.

    Args:
        token_level_rewards: (B, T).
        response_mask: (B, T) of bool, integers or floats; 0 where a token is not the model's.
        index: (B,) group id of each row; verl passes the batch's `uid`.
        config: verl's `config.algorithm`; knobs are read below its `asym_grpo`, see `AsymGRPOConfig`. Without one, that
            of the trainer that is calling; a direct call without one has the defaults.
        **kwargs: what else verl hands to estimators. Of it only `non_tensor_batch` is used, a mapping to (B,) values,
            for `success_key`; without it they are those of the trainer that is calling.

    Returns:
        advantages and returns: one (B, T) tensor twice, as verl's grpo does, in the rewards' dtype, on their device,
        without gradient.

    Raises:
        ConfigError: a knob is unknown or impossible, a trainer gives no configuration and none can be found, or it has
            no values of `success_key`.
        ValueError: `index` is missing, shapes disagree, or a counted row's score is not a finite number.
        RuntimeError: `on_no_signal` is `raise`, and nothing was learned for `NO_SIGNAL_STEPS` calls.
    """
    if config is None and find_config is not None:
        config = find_config()
    knobs = AsymGRPOConfig.from_algorithm(config)
    _check_shapes(token_level_rewards, response_mask, index)

    dtype = token_level_rewards.dtype if token_level_rewards.is_floating_point() else torch.get_default_dtype()
    mask = response_mask.to(dtype)
    key = knobs.success_key
    values = None if key is None else _verdicts(key, len(mask), kwargs.get("non_tensor_batch"))
    scores = token_level_rewards.sum(-1) if values is None else values
    groups = form_groups(scores, counted_rows(mask), index, knobs.success_threshold, score=key or "reward")
    f, g = curves(knobs, groups.successes, groups.sizes, _entropy(knobs, len(mask)))
    counted = torch.where(groups.success, f[groups.ids], -g[groups.ids])
    _warn(config, knobs, groups, counted)
    _end_without_signal(knobs, groups, counted)

    bound = min(knobs.max_abs_advantage or float("inf"), torch.finfo(dtype).max)
    counted = counted.clamp(-bound, bound)
    per_row = torch.zeros(len(scores), dtype=torch.float64)
    per_row[groups.rows] = counted
    per_row = per_row.to(device=mask.device, dtype=dtype)
    # In place where the mask had to be converted: a third faster than `per_row[:, None] * response_mask` (int64).
    own_mask = mask if mask is not response_mask else None
    advantages = torch.mul(per_row[:, None], mask, out=own_mask)
    for observe in observers:
        observe(groups, counted, response_mask, config)
    return advantages, advantages


def _entropy(knobs: AsymGRPOConfig, rows: int) -> tuple[float, float] | None:
    if not PRESETS[knobs.preset].needs_entropy:
        return None
    found = find_entropy(rows) if find_entropy is not None else None
    if found is None:
        _warn_once(
            "asym_grpo: %s.preset=%s takes a delta of 1, because no trainer is there whose batch has an entropy.",
            *(PATH, knobs.preset),
        )
    return found


def reset_warnings() -> None:
    """Lets every once-per-run warning be given again, as at the start of a run."""
    global _steps_without_signal
    _warned.clear()
    _steps_without_signal = 0


def _verdicts(key: str, rows: int, non_tensor_batch: Any) -> Tensor:
    """(B,) float64 of what the reward function returned as `key`; NaN where that is not a number."""
    values = (non_tensor_batch or {}).get(key)
    if values is None and find_verdicts is not None:
        values = find_verdicts(key, rows)
    if values is None or len(values) != rows:
        raise ConfigError(
            f"{PATH}.success_key={key}: there is no such value for each of the {rows} responses. The reward function "
            f"must return a dict with {key!r} for every response, and the trainer must keep it (non_tensor_batch, or "
            "V1's extra_fields)."
        )
    items = values.tolist() if hasattr(values, "tolist") else values
    return torch.tensor([_number(item) for item in items], dtype=torch.float64)


def _number(value: Any) -> float:
    """NaN for what is none, as None and text are."""
    try:
        return float("nan") if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return float("nan")


def _check_shapes(token_level_rewards: Tensor, response_mask: Tensor, index: Any) -> None:
    if token_level_rewards.ndim != 2 or token_level_rewards.shape != response_mask.shape:
        raise ValueError(
            "asym_grpo: token_level_rewards and response_mask must both be (rows, tokens), "
            f"got {tuple(token_level_rewards.shape)} and {tuple(response_mask.shape)}."
        )
    if index is None:
        raise ValueError(
            "algorithm.adv_estimator=asym_grpo compares the responses to one prompt and needs `index`, one group id "
            "per row. verl passes the batch's `uid`: a custom trainer or data pipeline must set "
            'data.non_tensor_batch["uid"], equal for responses to the same prompt.'
        )
    shape = tuple(index.shape) if hasattr(index, "shape") else (len(index),)
    if shape != (len(token_level_rewards),):
        raise ValueError(
            f"asym_grpo: index must have one group id per row, got shape {shape} for {len(token_level_rewards)} rows."
        )


def _warn(config: Any, knobs: AsymGRPOConfig, groups: Groups, advantages: Tensor) -> None:
    """Says, once per run, what in this batch (N counted rows in P groups, their (N,) advantages) deserves a look."""
    if read(config, "use_kl_in_reward") and knobs.success_key is None:
        _warn_once(
            "algorithm.use_kl_in_reward=True: the reward is no longer the verifier's, the KL penalty is in it, and "
            "asym_grpo calls a response a success by that sum. Use actor_rollout_ref.actor.use_kl_loss=True instead.",
        )
    if read(config, "norm_adv_by_std_in_grpo") is False:
        _warn_once(
            "algorithm.norm_adv_by_std_in_grpo=False is for verl's own grpo and changes nothing here: "
            "%s.preset=dr_grpo is GRPO without that division.",
            PATH,
        )
    scores = groups.scores
    if len(scores) and bool(((scores != scores.min()) & (scores != scores.max())).any()):
        _warn_once(
            "asym_grpo: scores have more than two distinct values (here from %g to %g). They are binarised: "
            "score > %g is a success (here %d of %d responses). Move the line with %s.success_threshold.",
            *(scores.min(), scores.max(), knobs.success_threshold, groups.success.sum(), len(scores), PATH),
        )
    one_side = len(scores) > 0 and bool((groups.success == groups.success[0]).all())
    if one_side and bool(scores.min() != scores.max()) and not advantages.any():
        values = scores.unique().tolist()
        between = (values[0] + values[1]) / 2 if groups.success[0] else (values[-2] + values[-1]) / 2
        _warn_once(
            "asym_grpo: scores differ (%s), but all of them are %s %s.success_threshold=%g, so no group has both a "
            "success and a failure and nothing is learned. To tell %g from %g: +%s.success_threshold=%g.",
            ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else ""),
            "above" if groups.success[0] else "not above",
            *(PATH, knobs.success_threshold, *((values[1], values[0]) if groups.success[0] else values[:-3:-1])),
            *(PATH, between),
        )
    pass_k = int(knobs.curve_knobs.get("pass_k", 0))
    below_k = groups.sizes[groups.sizes < pass_k]
    learned_nothing = int(((groups.sizes[groups.ids] == 1) & (advantages == 0)).sum())
    if len(below_k):
        _warn_once(
            "asym_grpo: nothing can be learned from %d of %d groups: they have %d to %d responses each, fewer than "
            "%s.pass_k=%d, so their advantages are 0. Set actor_rollout_ref.rollout.n to %d or more, or lower pass_k; "
            "with rejected samples a few such groups are to be expected.",
            *(len(below_k), len(groups.sizes), below_k.min(), below_k.max(), PATH, pass_k, pass_k),
        )
    elif learned_nothing:
        some = int(groups.sizes.max()) > 1
        _warn_once(
            "asym_grpo: nothing can be learned from %d of %d groups: they have one response each, so its advantage "
            f"is 0. {'With rejected samples a few such groups are to be expected; else set' if some else 'Set'} "
            "actor_rollout_ref.rollout.n to 2 or more (the paper: 8).",
            *(learned_nothing, len(groups.sizes)),
        )


def _end_without_signal(knobs: AsymGRPOConfig, groups: Groups, advantages: Tensor) -> None:
    """Counts the calls in which nothing was learned; ends the run after too many where the user asked for it. A call
    without any response that counts says nothing of the reward."""
    global _steps_without_signal
    if not len(groups.sizes):
        return
    _steps_without_signal = 0 if bool(advantages.any()) else _steps_without_signal + 1
    if knobs.on_no_signal == "raise" and _steps_without_signal >= NO_SIGNAL_STEPS:
        seen = ", ".join(f"{score:g}" for score in groups.scores.unique().tolist()[:8])
        if bool(((groups.successes > 0) & (groups.successes < groups.sizes)).any()):
            why = f"preset {knobs.preset} gives 0 for these shares of successes. Look at its knobs"
        else:
            why = (
                f"no group had both a success and a failure (scores of the last: {seen}; a success is above "
                f"{knobs.success_threshold:g}). Look at the reward and at {PATH}.success_threshold"
            )
        raise RuntimeError(
            f"asym_grpo: every advantage was 0 in the last {_steps_without_signal} batches: {why}; "
            f"{PATH}.on_no_signal=warn goes on all the same."
        )


def _warn_once(message: str, *args: Any) -> None:
    if message not in _warned:
        _warned.add(message)
        logger.warning(message, *args)
