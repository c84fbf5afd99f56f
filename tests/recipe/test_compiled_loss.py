"""The compiled entropy_modulated loss equals the uncompiled one, whatever was compiled before it, here or elsewhere."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from verl.trainer.ppo.core_algos import agg_loss
from verl.workers.config import FSDPActorConfig

from recipe.asymgrpo import policy_loss
from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig
from recipe.asymgrpo.policy_loss import compute_policy_loss_entropy_modulated

MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")
MASKS = (torch.bool, torch.int64, torch.float32)
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
INFOS = (
    None,
    {"dp_size": 1, "batch_num_tokens": 40, "global_batch_size": 6, "loss_scale_factor": None},
    {"dp_size": 2, "batch_num_tokens": 97, "global_batch_size": 12, "loss_scale_factor": 9},
    {"dp_size": 4, "batch_num_tokens": 33, "global_batch_size": 7, "loss_scale_factor": 31},
)
# One after the other: with the clip as a Python number the second or the third has the first one's.
CLIPS = ((0.2, 0.2, 3.0), (0.2, 0.28, 3.0), (0.1, 0.4, 3.0), (0.05, 0.1, 1.5), (0.3, 0.3, 10.0))
KNOBS = ((0.0, 0.0, 0.5), (0.3, 0.0, 0.5), (0.7, 0.4, 0.6), (0.1, 1.3, 0.95))
# Probability ratios, none of them so close to a bound of CLIPS that bfloat16 could round it across.
RATIOS = (0.6, 0.75, 0.85, 0.925, 1.0, 1.025, 1.15, 1.24, 1.34, 1.6, 4.0)
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10, torch.bfloat16: 4e-2}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing that was compiled before, and nothing left for what comes after."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    policy_loss._compilation.cache_clear()
    yield
    policy_loss._compilation.cache_clear()


def make(seed, dtype, mask_dtype, weighted):
    random_ = torch.Generator().manual_seed(seed)
    rows, tokens = 2 + seed % 5, 2 + seed % 7
    old = -torch.rand(rows, tokens, generator=random_)
    new = old + torch.tensor(RATIOS).log()[torch.randint(len(RATIOS), old.shape, generator=random_)]
    advantages = torch.randn(rows, 1, generator=random_).expand(rows, tokens)
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, 1), generator=random_)
    weights = (0.5 + torch.rand(rows, tokens, generator=random_)).to(dtype) if weighted else None
    return old.to(dtype), new.to(dtype), advantages.to(dtype), mask.to(mask_dtype), weights


def evaluate(batch, mode, clip, knobs, info, compiled):
    low, high, dual = clip
    config = FSDPActorConfig(
        strategy="fsdp2", ppo_micro_batch_size_per_gpu=1, rollout_n=1, use_torch_compile=compiled,
        clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=dual,
        policy_loss=EntropyModulatedLossConfig(
            informative_coef=knobs[0], spurious_coef=knobs[1], modulation_cap=knobs[2]
        ),
    )  # fmt: skip
    if info:
        config.global_batch_info.update(info)
    old, new, advantages, mask, weights = batch
    new = new.clone().requires_grad_()
    loss, metrics = compute_policy_loss_entropy_modulated(
        old, new, advantages, mask, mode, config, rollout_is_weights=weights
    )
    loss.backward()
    return loss.detach(), new.grad, {name: float(value) for name, value in metrics.items()}


def check(seed, layout, clip, knobs, info):
    """Loss, gradient and metrics of one call, compiled and not."""
    mode, dtype, mask_dtype, weighted = layout
    batch = make(seed, dtype, mask_dtype, weighted)
    loss, gradient, metrics = evaluate(batch, mode, clip, knobs, info, compiled=True)
    expected, expected_gradient, expected_metrics = evaluate(batch, mode, clip, knobs, info, compiled=False)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(loss, expected, **close)
    torch.testing.assert_close(gradient, expected_gradient, **close)
    assert metrics == pytest.approx(expected_metrics, rel=max(1e-5, close["rtol"]), abs=max(1e-6, close["atol"]))


def run(layouts, calls, seed, caplog):
    """Calls of these layouts in any order, each with other knobs and counts than the one before."""
    rng = random.Random(seed)
    modes = [mode for mode in MODES if f'"{mode}"' in Path(agg_loss.__code__.co_filename).read_text()]
    with_info = "batch_num_tokens" in agg_loss.__code__.co_varnames
    layouts = [layout for layout in layouts if layout[0] in modes]
    queue = [layout for layout in layouts for _ in range(calls)]
    rng.shuffle(queue)
    with caplog.at_level(logging.WARNING):
        for number, layout in enumerate(queue):
            info = rng.choice(INFOS) if with_info else None
            check(number, layout, rng.choice(CLIPS), rng.choice(KNOBS), info)
    assert not policy_loss._compile_failures
    assert "recompile_limit" not in caplog.text


FIRST = ("token-mean", torch.float32, torch.bool, False)


def test_one_layout_with_every_clip(caplog):
    """One clip after the other, without counts and with them."""
    for number, clip in enumerate(CLIPS):
        check(3, FIRST, clip, KNOBS[number % len(KNOBS)], None)
    run([FIRST], 8, 0, caplog)


@pytest.mark.ci
def test_any_order_in_one_process(caplog):
    """Each dtype and mask type, with and without weights and counts."""
    layouts = [
        FIRST,
        ("seq-mean-token-sum-norm", torch.float64, torch.int64, True),
        ("seq-mean-token-mean", torch.bfloat16, torch.float32, True),
    ]
    for number, clip in enumerate(CLIPS):
        check(3, FIRST, clip, KNOBS[number % len(KNOBS)], None)
    run(layouts, 8, 0, caplog)


@pytest.mark.slow
def test_every_combination_in_one_process(caplog):
    run(list(itertools.product(MODES, DTYPES, MASKS, (False, True))), 6, 1, caplog)


PROCESS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_compiled_loss as t
import torch
layout = ("token-mean", torch.float32, torch.int64, False)
for clip in json.loads(sys.argv[2]):
    t.check(3, layout, clip, t.KNOBS[1], t.INFOS[1] if "batch_num_tokens" in t.agg_loss.__code__.co_varnames else None)
"""


@pytest.mark.slow
def test_processes_one_after_another_in_one_cache_folder(tmp_path):
    """What one leaves on the disk is not taken by the next, which has another clip."""
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "shared")}
    for clip in CLIPS[:3]:
        command = [sys.executable, "-W", "ignore", "-c", PROCESS, str(Path(__file__).parent), json.dumps([clip])]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
