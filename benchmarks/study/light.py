"""The light engine: one GRPO-style training in one process and on one thread, in seconds.

Same base model, prompts, reward, estimator and loss as the quickstart in verl, configured by verl's own Hydra
overrides; what is left out is Ray, vLLM and FSDP. `benchmarks/study/analysis.py` checks that both engines agree.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.study.policy import Policy, Rollouts, entropies, sampled
from benchmarks.study.scoring import Row, Scorer, prompt_of
from recipe.asymgrpo.diagnostics import covariance_sums
from recipe.asymgrpo.entropy_control import EntropyControlConfig, State, control
from recipe.asymgrpo.groups import Groups, counted_rows, form_groups
from recipe.asymgrpo.pass_at_k import mean_pass_at_k

ROLLOUTS = 8
PROMPTS = 16
MINI_BATCHES = 2  # as the paper's 128 prompts in mini-batches of 64; with one, no ratio ever leaves 1
EVALUATED_AT_ONCE = 4096
EVALUATION_SEED = 20260404
OF_UPDATE = ("entropy_change", "update_kl", "positive_increment", "negative_increment")


def solved_counts(
    policy: Policy, rows: Sequence[Row], samples: int, temperature: float = 1.0
) -> Counter[tuple[int, int]]:
    """How many problems have (n samples, c solved), as `recipe.asymgrpo.pass_at_k` takes it."""
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    scores_of = Scorer()
    scores: list[Tensor] = []
    at_once = max(1, EVALUATED_AT_ONCE // samples)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        rollouts = policy.sample([prompt_of(row) for row in part], samples, generator, temperature)
        scores.append(scores_of([row for row in part for _ in range(samples)], rollouts.texts))
    counts = torch.cat(scores).view(len(rows), samples).sum(1).int().tolist()
    return Counter((samples, count) for count in counts)


def evaluate(
    policy: Policy, rows: Sequence[Row], samples: int, ks: Sequence[int], temperature: float = 1.0
) -> dict[str, float]:
    """Unbiased pass@k over held-out problems, by k as text."""
    groups = solved_counts(policy, rows, samples, temperature)
    found = {str(k): mean_pass_at_k(groups, k) for k in ks}
    return {k: value for k, value in found.items() if value is not None}


@functools.cache
def configuration(overrides: tuple[str, ...]) -> Any:
    """verl's composed configuration for a training with these overrides, as its own command line would have it."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=list(overrides))


@dataclass
class Method:
    """What verl would call in a step: estimator, loss, optimizer, by their configuration."""

    algorithm: Any
    actor: Any  # verl's ActorConfig
    estimate: Any
    loss: Any

    @classmethod
    def of(cls, overrides: Sequence[str]) -> Method:
        """Reads verl's configuration.

        Args:
            overrides: Hydra overrides of verl, e.g. ``+asymgrpo=paper``.
        """
        import verl.trainer.ppo.core_algos as core_algos
        from verl.utils.config import omega_conf_to_dataclass

        import verl_ext.plugin  # noqa: F401  (registers)
        from recipe.asymgrpo import advantage

        advantage.observers.clear()  # there is no trainer's log to write to

        fixed = (
            "actor_rollout_ref.actor.strategy=fsdp2",
            "actor_rollout_ref.actor.use_torch_compile=False",
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
            f"actor_rollout_ref.rollout.n={ROLLOUTS}",
            "actor_rollout_ref.actor.policy_loss.loss_mode=entropy_modulated",
        )
        config = configuration((*fixed, *overrides))
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
        estimate = core_algos.get_adv_estimator_fn(config.algorithm.adv_estimator)
        return cls(config.algorithm, actor, estimate, core_algos.get_policy_loss_fn(actor.policy_loss.loss_mode))


def train(
    base: Path,
    rows: Sequence[Row],
    overrides: Sequence[str],
    *,
    lr: float,
    steps: int,
    seed: int,
    after_step: Callable[[Policy, int], None] | None = None,
    updates_every: int = 1,
) -> tuple[Policy, dict[str, list[Any]]]:
    """Train the model in `base` and return it with what every step measured.

    Args:
        base: folder of the model.
        rows: training prompts in verl's layout.
        overrides: the method, as Hydra overrides of verl.
        lr: AdamW's step size.
        after_step: called with the policy and the number of steps done, after each; it must leave the policy as it is.
        updates_every: steps from one that is compared with the policy after it to the next; the figures of an update,
            `entropy_change` to `negative_increment`, are None in the others.

    Returns:
        The policy, and by name one number a step: `accuracy`, `none_solved`, `all_solved` (shares of the batch),
        `entropy` (nats a token, of the policy that sampled), `mean_abs_adv` (a token), `clipfrac`, `cov` (of log pi and
        A within groups) with `cov_p_low`, `cov_p_high` (groups with p < 0.4, p >= 0.6; None without any),
        `entropy_change` (of the same states, by the step's whole update), `update_kl` (KL of the policy before the
        update to that after it on those states, nats a token), `positive_increment` and `negative_increment` (of the
        log-probability of a token of a success or failure, nats), `length` (in tokens), and with an entropy control its
        figures, `control/...`.
    """
    method = Method.of(overrides)
    policy = Policy(base)
    optim = method.actor.optim
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=lr, betas=tuple(optim.betas), weight_decay=optim.weight_decay
    )
    generator = torch.Generator().manual_seed(seed)
    shuffle = random.Random(seed)
    waiting: list[Row] = []
    series: dict[str, list[Any]] = {}
    scores_of = Scorer()
    levels, of_control = EntropyControlConfig.from_algorithm(method.algorithm), State()
    for step in range(1, steps + 1):
        if len(waiting) < PROMPTS:
            waiting = shuffle.sample(list(rows), len(rows))
        batch, waiting = waiting[:PROMPTS], waiting[PROMPTS:]
        repeated = [row for row in batch for _ in range(ROLLOUTS)]
        rollouts = policy.sample([prompt_of(row) for row in batch], ROLLOUTS, generator)
        mask, index = rollouts.response_mask, [i // ROLLOUTS for i in range(len(repeated))]
        scores = scores_of(repeated, rollouts.texts)
        rewards = torch.zeros_like(mask)
        rewards[torch.arange(len(mask)), mask.sum(1).long() - 1] = scores
        advantages, _ = method.estimate(rewards, mask, index=index, config=method.algorithm)
        before = rollouts.distributions  # the weights are still those that sampled
        old, entropy = sampled(before, rollouts.response_ids), entropies(before)
        used = advantages
        if levels is not None:
            progress = (step - 1) / max(steps - 1, 1)
            used, of_control, acted = control(levels, of_control, progress, advantages, old, mask, entropy)
        clipped = _update(policy, method, optimizer, rollouts, old, used)
        groups = form_groups(scores, counted_rows(mask), index, 0.5)
        measured = {
            "accuracy": float(scores.mean()),
            "none_solved": float((groups.successes == 0).float().mean()),
            "all_solved": float((groups.successes == groups.sizes).float().mean()),
            "entropy": _mean(entropy, mask),
            "mean_abs_adv": _mean(used.abs(), mask),
            "clipfrac": clipped,
            **_covariances(groups, advantages, old, mask),
            **(_of_update(policy, rollouts, scores) if step % updates_every == 0 else dict.fromkeys(OF_UPDATE)),
            "length": float(mask.sum(1).mean()),
        }
        if levels is not None:
            measured |= {name.removeprefix("asymgrpo/"): value for name, value in acted.items()}
        for name, value in measured.items():
            series.setdefault(name, []).append(value)
        if after_step:
            after_step(policy, step)
    return policy, series


def _update(
    policy: Policy, method: Method, optimizer: Any, rollouts: Rollouts, old: Tensor, advantages: Tensor
) -> float:
    """The mini-batches of a step, as verl's actor has them; the share of tokens that PPO clipped."""
    actor, clipped = method.actor, []
    for rows, part in rollouts.mini_batches(MINI_BATCHES):
        log_prob, entropy = policy.log_probs(part)
        mask = part.response_mask
        arguments = (old[rows], log_prob, advantages[rows], mask, actor.loss_agg_mode, actor)
        loss, metrics = method.loss(*arguments)
        if actor.entropy_coeff:
            loss = loss - actor.entropy_coeff * (entropy * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), actor.optim.clip_grad)
        optimizer.step()
        clipped.append(float(metrics.get("actor/pg_clipfrac", 0.0)))
    return sum(clipped) / len(clipped)


@torch.no_grad()
def _of_update(policy: Policy, rollouts: Rollouts, scores: Tensor) -> dict[str, float]:
    """How the policy of now and that which sampled differ on the same states."""
    before, after, mask = rollouts.distributions, policy.distributions(rollouts), rollouts.response_mask
    moved = sampled(after - before, rollouts.response_ids)
    found = (
        _mean(entropies(after) - entropies(before), mask),
        _mean((before.exp() * (before - after)).sum(-1), mask),
        _mean(moved, mask * (scores > 0.5)[:, None]),
        _mean(moved, mask * (scores <= 0.5)[:, None]),
    )
    return dict(zip(OF_UPDATE, found, strict=True))


def _mean(values: Tensor, mask: Tensor) -> float:
    """Mean over the tokens of the mask; 0 where it has none."""
    count = float(mask.sum())
    return float((values * mask).sum()) / count if count else 0.0


def _covariances(groups: Groups, advantages: Tensor, log_probs: Tensor, mask: Tensor) -> dict[str, Any]:
    sums = covariance_sums(groups, advantages[groups.rows, 0], log_probs, mask)

    def mean(*bins: str) -> float | None:
        count = sum(sums[f"cov_groups_{name}"] for name in bins)
        return sum(sums[f"cov_{name}"] for name in bins) / count if count else None

    low, high = ("0_20", "20_40"), ("60_80", "80_100")
    return {"cov": mean(*low, "40_60", *high), "cov_p_low": mean(*low), "cov_p_high": mean(*high)}
