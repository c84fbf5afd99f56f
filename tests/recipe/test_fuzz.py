"""Random batches through the estimator (100,000) and the loss (20,000): no NaN, and no exception but documented ones.

    bash tests/run.sh tests/recipe/test_fuzz.py        all of them; without this argument a twentieth

A batch is made from its number alone: `check_estimate(N)` and `check_loss(N)` repeat one that failed.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.workers.config import FSDPActorConfig

from recipe.asymgrpo import advantage
from recipe.asymgrpo.advantage import compute_asym_grpo_advantage
from recipe.asymgrpo.config import AsymGRPOConfig
from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig
from recipe.asymgrpo.policy_loss import compute_policy_loss_entropy_modulated

PARTS = [pytest.param(part, marks=[pytest.mark.slow] if part else []) for part in range(20)]
ESTIMATES, LOSSES = 5_000, 1_000  # a part
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """No trainer listens, and every warning has been given."""
    monkeypatch.setattr(advantage, "observers", [])
    monkeypatch.setattr(advantage, "_warn_once", lambda *_: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def strided(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, sometimes not contiguous."""
    if rng.random() < 0.3:
        return tensor.T.contiguous().T
    if rng.random() < 0.2:
        return torch.stack([tensor, torch.full_like(tensor, 1)], -1)[..., 0]
    return tensor


def ragged_mask(rng: random.Random, rows: int, tokens: int) -> torch.Tensor:
    """(rows, tokens) bool; some rows are empty, some start late, some have holes (tool calls)."""
    mask = torch.zeros(rows, tokens, dtype=torch.bool)
    for row in range(rows):
        length = rng.choice((0, 1, tokens, rng.randint(0, tokens)))
        start = rng.randint(0, tokens - length) if rng.random() < 0.1 else 0
        mask[row, start : start + length] = True
        if rng.random() < 0.1 and tokens:
            mask[row, rng.randrange(tokens)] = False
    return mask


def random_knobs(rng: random.Random) -> dict:
    preset = rng.choice(list(PRESETS))
    knobs: dict = {"preset": preset}
    ranges = {
        "beta_pos": lambda: rng.choice((0, 1, -1, rng.uniform(-4, 4), 60.0, -60.0)),
        "beta_neg": lambda: rng.choice((0, 1, -1, rng.uniform(-4, 4), 60.0, -60.0)),
        "positive_weight": lambda: rng.choice((0, rng.uniform(0, 3))),
        "focal_gamma": lambda: rng.choice((0, rng.uniform(0, 20))),
        "fade_alpha": lambda: rng.choice((0, 0.5, rng.uniform(0, 20))),
        "fade_delta": lambda: rng.choice((1e-6, rng.uniform(0.1, 5))),
        "fade_target": lambda: rng.choice((0.5, rng.uniform(0.1, 5))),
        "agrae_alpha": lambda: rng.choice((1, rng.uniform(0.01, 1))),
        "quantile_k": lambda: rng.choice((0, 1, rng.random())),
        "pass_k": lambda: rng.randint(1, 12),
    }
    for knob in PRESETS[preset].knobs:
        if rng.random() < 0.6:
            knobs[knob] = ranges[knob]()
    if rng.random() < 0.3:
        knobs["success_threshold"] = rng.choice((0, 0.5, -1, 1e30, rng.uniform(-2, 2)))
    if rng.random() < 0.3:
        knobs["max_abs_advantage"] = rng.choice((1e-3, 5, 1e6))
    return knobs


def random_rewards(rng: random.Random, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(rows, tokens): an outcome on some token of a row; rarely extreme, graded, or not finite."""
    rewards = torch.zeros(mask.shape, dtype=dtype)
    kinds = ["binary"] * 6 + ["signed", "graded", "huge", "spread"] + (["broken"] if rng.random() < 0.2 else [])
    kind = rng.choice(kinds)
    largest = torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max
    for row in range(len(mask)):
        if not mask.shape[1]:
            break
        column = rng.randrange(mask.shape[1])
        rewards[row, column] = {
            "binary": lambda: rng.randint(0, 1),
            "signed": lambda: rng.choice((-1, 1)),
            "graded": lambda: rng.choice((0, 1, 2)) if not dtype.is_floating_point else rng.random(),
            "huge": lambda: rng.choice((-1, 1)) * (largest / 4 if dtype.is_floating_point else largest // 4),
            "spread": lambda: rng.randint(-3, 3),
            "broken": lambda: (
                rng.choice((float("nan"), float("inf"), -float("inf"), 1.0)) if dtype.is_floating_point else 1
            ),
        }[kind]()
    return rewards


def random_index(rng: random.Random, rows: int) -> object:
    """Group ids: often groups of one size in order, sometimes ragged and mixed, as each type that may come."""
    size = rng.randint(1, 8)
    ids = [row // size for row in range(rows)] if rng.random() < 0.6 else [rng.randrange(1 + rows) for _ in range(rows)]
    kind = rng.randrange(4)
    if kind == 0:
        return np.array([f"uid-{i}" for i in ids], dtype=object)
    if kind == 1:
        return np.array(ids, dtype=np.int64)
    return torch.tensor(ids, dtype=torch.int64) if kind == 2 else ids


def check_estimate(number: int) -> str:
    """One random batch through the estimator; what became of it."""
    rng = random.Random(f"estimate {number}")
    rows, tokens = rng.choice((0, 1, 2, 8, rng.randint(1, 40))), rng.choice((1, 5, rng.randint(1, 12)))
    mask = ragged_mask(rng, rows, tokens)
    dtype = rng.choice((*FLOATS, torch.float32, torch.int64))
    rewards = strided(rng, random_rewards(rng, mask, dtype))
    given = strided(rng, mask.to(rng.choice((torch.bool, torch.int64, torch.int32, *FLOATS))))
    index, knobs = random_index(rng, rows), random_knobs(rng)
    config = OmegaConf.create({"asym_grpo": knobs}) if rng.random() < 0.5 else {"asym_grpo": knobs}
    counted = mask.any(-1)
    scores = rewards.sum(-1)
    untouched = rewards.clone(), given.clone()
    if not scores[counted].isfinite().all():
        with pytest.raises(ValueError, match="NaN or infinite"):
            compute_asym_grpo_advantage(rewards, given, index=index, config=config)
        return "rejected"
    advantages, returns = compute_asym_grpo_advantage(rewards, given, index=index, config=config)
    assert torch.equal(rewards.nan_to_num(), untouched[0].nan_to_num())
    assert torch.equal(given, untouched[1])
    assert advantages is returns
    assert advantages.shape == rewards.shape
    assert advantages.dtype == (dtype if dtype.is_floating_point else torch.float32)
    assert advantages.isfinite().all()
    assert not advantages[~mask].any()
    per_row = advantages.double().abs().amax(-1) if tokens else torch.zeros(rows)
    assert torch.equal(advantages.double().abs(), per_row[:, None] * mask)
    bound = AsymGRPOConfig.from_algorithm(config).max_abs_advantage
    if bound is not None:
        # Rounded to its own dtype.
        assert per_row.le(float(torch.tensor(bound, dtype=advantages.dtype))).all()
    success = scores > AsymGRPOConfig.from_algorithm(config).success_threshold
    sign = advantages.sum(-1).sign() if tokens else torch.zeros(rows)
    if knobs["preset"] != "pass_at_k":  # whose failures may be credited
        assert (sign[success & counted] >= 0).all()
        assert (sign[~success & counted] <= 0).all()
    # The order of the rows means nothing.
    order = list(range(rows))
    rng.shuffle(order)
    ids = index.tolist() if hasattr(index, "tolist") else index
    again, _ = compute_asym_grpo_advantage(rewards[order], given[order], index=[ids[i] for i in order], config=config)
    assert torch.equal(again, advantages[order])
    return "estimated"


def check_loss(number: int) -> None:
    """One random batch through the loss, forward and backward."""
    rng = random.Random(f"loss {number}")
    make = torch.Generator().manual_seed(number)
    rows, tokens = rng.randint(1, 12), rng.choice((1, 2, rng.randint(1, 24)))
    dtype = rng.choice(FLOATS)
    mask = ragged_mask(rng, rows, tokens)
    if not mask.any():
        mask[0, 0] = True  # verl gives no micro-batch without a token

    def noise(scale: float) -> torch.Tensor:
        return scale * torch.randn(rows, tokens, generator=make)

    # From certain to hopeless, and ratios beyond what a float can hold.
    old = -noise(rng.choice((0.0, 0.5, 3.0, 50.0))).abs()
    new = old + noise(rng.choice((0.0, 0.1, 5.0, 500.0)))
    size = rng.choice((0.0, 1e-6, 1.0, 40.0, 1e3))
    if dtype is torch.float16:  # beyond it: exp(20), where verl bounds a ratio, and products of what is far below
        new, size = torch.minimum(new, old + 5), min(size, 40.0)
    advantages = size * torch.randn(rows, 1, generator=make).expand(rows, tokens)
    if rng.random() < 0.2:
        advantages = size * noise(1.0)  # of a token, as other estimators give them
    weights = torch.rand(rows, tokens, generator=make).mul(3).to(dtype) if rng.random() < 0.3 else None
    old, new, advantages = (strided(rng, tensor.to(dtype)) for tensor in (old, new, advantages))
    new = new.detach().clone().requires_grad_()
    cap = rng.choice((0.0, 0.5, 0.999999, rng.random()))
    coefficients = rng.choice((0.0, 0.1, 1e6)), rng.choice((0.0, 0.3, 1e6))
    knobs = EntropyModulatedLossConfig(
        informative_coef=coefficients[0], spurious_coef=coefficients[1], modulation_cap=cap
    )
    clips = {"clip_ratio_low": rng.choice((0.2, 0.0)), "clip_ratio_high": rng.choice((0.2, 0.28, 5.0))}
    clips["clip_ratio_c"] = rng.choice((3.0, 10.0, 1.01))
    config = FSDPActorConfig(
        strategy="fsdp2",
        ppo_micro_batch_size_per_gpu=1,
        rollout_n=1,
        use_torch_compile=False,
        policy_loss=knobs,
        **clips,
    )
    if rng.random() < 0.5:
        config.global_batch_info.update(dp_size=2, batch_num_tokens=int(mask.sum()) + 3, global_batch_size=rows + 1)
    given = strided(rng, mask.to(rng.choice((torch.bool, torch.int64, torch.float32))))
    loss, metrics = compute_policy_loss_entropy_modulated(
        old, new, advantages, given, rng.choice(MODES), config, rollout_is_weights=weights
    )
    loss.backward()
    assert loss.isfinite()
    assert new.grad.isfinite().all()
    assert not new.grad[~mask].any()
    assert all(np.isfinite(float(value)) for value in metrics.values()), metrics


@pytest.mark.parametrize("part", PARTS)
def test_estimator(part):
    outcomes = Counter(check_estimate(number) for number in range(part * ESTIMATES, (part + 1) * ESTIMATES))
    assert outcomes["estimated"] > 0.9 * ESTIMATES
    assert outcomes["rejected"] > 0


@pytest.mark.parametrize("part", PARTS)
def test_loss(part):
    for number in range(part * LOSSES, (part + 1) * LOSSES):
        check_loss(number)
