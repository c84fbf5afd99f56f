"""The entropy_modulated loss against verl's vanilla, against an oracle of scalars, and against its theory."""

from __future__ import annotations

import inspect
import json
import logging
import math
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verl.trainer.ppo.core_algos import agg_loss, compute_policy_loss_vanilla
from verl.utils import metric as verl_metric
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.py_functional import append_to_dict
from verl.workers.config import FSDPActorConfig, PolicyLossConfig

from recipe.asymgrpo import policy_loss
from recipe.asymgrpo.config import ConfigError
from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig
from recipe.asymgrpo.policy_loss import Pooled, compute_policy_loss_entropy_modulated, covariance, modulate, ratio

MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")
MODES = tuple(mode for mode in MODES if f'"{mode}"' in inspect.getsource(agg_loss))  # verl 0.7 has no token-sum
BATCH_INFO = "batch_num_tokens" in inspect.signature(agg_loss).parameters  # not in verl 0.6
needs_batch_info = pytest.mark.skipif(not BATCH_INFO, reason="this verl normalises each micro-batch by itself")
SHARED = ("actor/pg_clipfrac", "actor/ppo_kl", "actor/pg_clipfrac_lower")


def actor(compiled=False, knobs=None, info=None, **clips):
    """verl's own actor configuration."""
    config = FSDPActorConfig(
        strategy="fsdp2",
        ppo_micro_batch_size_per_gpu=1,
        rollout_n=1,
        use_torch_compile=compiled,
        policy_loss=EntropyModulatedLossConfig(**knobs or {}),
        **clips,
    )
    if info:
        config.global_batch_info.update(info)
    return config


def make_batch(rows, tokens, seed=0, dtype=torch.float64, weights=False):
    """Ragged responses; signs of the advantages by row, as an outcome estimator gives them, and some zero."""
    make = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, tokens, generator=make, dtype=torch.float64) * 3
    new = old + 0.4 * torch.randn(rows, tokens, generator=make, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0])[torch.randint(5, (rows, 1), generator=make)]
    advantages = (signs * (0.1 + torch.rand(rows, 1, generator=make))).expand(rows, tokens)
    lengths = torch.randint(0, tokens + 1, (rows, 1), generator=make)
    lengths[0] = tokens
    mask = torch.arange(tokens) < lengths
    is_weights = 0.5 + torch.rand(rows, tokens, generator=make) if weights else None
    cast = [x.to(dtype) for x in (old, new, advantages)]
    return *cast, mask, is_weights if is_weights is None else is_weights.to(dtype)


def evaluate(loss_fn, batch, mode, config):
    old, new, advantages, mask, weights = batch
    new = new.clone().requires_grad_()
    loss, metrics = loss_fn(old, new, advantages, mask, mode, config, rollout_is_weights=weights)
    loss.backward()
    return loss.detach(), new.grad, metrics


def reference(batch, mode, config, knobs):
    """Loss and gradient, token by token in Python floats, from the definition."""
    old, new, advantages, mask, weights = batch
    low = config.clip_ratio if config.clip_ratio_low is None else config.clip_ratio_low
    high = config.clip_ratio if config.clip_ratio_high is None else config.clip_ratio_high
    rows, gradients, clipped = [], torch.zeros_like(new, dtype=torch.float64), 0
    for i in range(len(new)):
        own = [t for t in range(new.shape[1]) if mask[i, t]]
        baseline = sum(old[i, t].item() for t in own) / max(1, len(own))
        losses = []
        for t in own:
            a = advantages[i, t].item()
            shape = (old[i, t].item() - baseline) * (-knobs.informative_coef if a > 0 else knobs.spurious_coef)
            bound = knobs.modulation_cap * abs(a)
            a += 0.0 if a == 0 else max(-bound, min(bound, shape))
            r = math.exp(new[i, t].item() - old[i, t].item())
            inside = min(max(r, 1 - low), 1 + high)
            value, slope = -a * r, -a * r
            if -a * inside > value:
                value, slope, clipped = -a * inside, 0.0, clipped + 1
            if a < 0 and value > -a * config.clip_ratio_c:
                value, slope = -a * config.clip_ratio_c, 0.0
            weight = 1.0 if weights is None else weights[i, t].item()
            losses.append(value * weight)
            gradients[i, t] = slope * weight
        rows.append(losses)
    tokens, filled = sum(map(len, rows)), sum(1 for row in rows if row)
    total = 0.0
    for i, row in enumerate(rows):
        scale = {
            "token-mean": 1 / tokens,
            "token-sum": 1.0,
            "seq-mean-token-sum": 1 / filled,
            "seq-mean-token-sum-norm": 1 / (filled if BATCH_INFO else 1) / new.shape[1],
            "seq-mean-token-mean": 1 / filled / max(1, len(row)),
        }[mode]
        total += scale * sum(row)
        gradients[i] *= scale
    return total, gradients, clipped / (tokens + 1e-8)


# 1. coefficients 0: vanilla


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    seed=st.integers(0, 10**6),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    clip_low=st.one_of(st.none(), st.floats(0.05, 0.5)),
    clip_high=st.one_of(st.none(), st.floats(0.05, 0.5)),
    clip_c=st.floats(1.05, 10.0),
    weights=st.booleans(),
    info=st.sampled_from(
        [{}, {"dp_size": 2, "batch_num_tokens": 100, "global_batch_size": 17, "loss_scale_factor": 1024}]
        if BATCH_INFO
        else [{}]
    ),
    cap=st.floats(0, 0.99),
)
def test_neutral_is_vanilla(shape, seed, mode, dtype, clip_low, clip_high, clip_c, weights, info, cap):
    config = actor(
        knobs={"modulation_cap": cap},
        info=info,
        clip_ratio_low=clip_low,
        clip_ratio_high=clip_high,
        clip_ratio_c=clip_c,
    )
    batch = make_batch(*shape, seed, dtype, weights)
    loss, gradient, metrics = evaluate(compute_policy_loss_entropy_modulated, batch, mode, config)
    expected, expected_gradient, expected_metrics = evaluate(compute_policy_loss_vanilla, batch, mode, config)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)
    for key in SHARED:
        assert metrics[key] == pytest.approx(expected_metrics[key], rel=1e-6, abs=1e-6)


def test_neutral_is_vanilla_in_bf16():
    config = actor()
    for mode in MODES:
        batch = make_batch(8, 16, 1, torch.bfloat16)
        loss, gradient, _ = evaluate(compute_policy_loss_entropy_modulated, batch, mode, config)
        expected, expected_gradient, _ = evaluate(compute_policy_loss_vanilla, batch, mode, config)
        torch.testing.assert_close(loss, expected.to(loss.dtype), rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-2, atol=1e-2)


def test_without_our_config_class_it_is_neutral():
    ours, plain = actor(), replace(actor(), policy_loss=PolicyLossConfig())
    batch = make_batch(4, 5)
    loss, _, _ = evaluate(compute_policy_loss_entropy_modulated, batch, "token-mean", plain)
    assert loss == evaluate(compute_policy_loss_entropy_modulated, batch, "token-mean", ours)[0]


# 2. compiled and eager against the oracle; micro-batches and ranks

KNOBS = {"informative_coef": 0.7, "spurious_coef": 0.4, "modulation_cap": 0.6}


@pytest.mark.parametrize(
    ("compiled", "modes"),
    [(False, MODES), (True, MODES[:1]), pytest.param(True, MODES[1:], marks=pytest.mark.slow)],  # a mode takes seconds
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_against_the_reference(compiled, modes, dtype, tolerance):
    config = actor(compiled, KNOBS, clip_ratio_low=0.1, clip_ratio_high=0.3, clip_ratio_c=1.5)
    for mode in modes:
        seed = MODES.index(mode)
        batch = make_batch(6, 11, seed, dtype, weights=seed % 2 == 0)
        loss, gradient, metrics = evaluate(compute_policy_loss_entropy_modulated, batch, mode, config)
        expected, expected_gradient, clipfrac = reference(batch, mode, config, config.policy_loss)
        assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        torch.testing.assert_close(gradient.double(), expected_gradient, rtol=tolerance, atol=tolerance)
        assert metrics["actor/pg_clipfrac"] == pytest.approx(clipfrac, abs=1e-6)
    assert not policy_loss._compile_failures


@pytest.mark.parametrize("compiled", [False, True])
def test_gradcheck(compiled):
    old, new, advantages, mask, weights = make_batch(3, 4, 5, weights=True)
    config = actor(compiled, KNOBS)

    def loss(log_prob):
        return compute_policy_loss_entropy_modulated(
            old, log_prob, advantages, mask, "token-mean", config, rollout_is_weights=weights
        )[0]

    torch._dynamo.reset()
    with torch._functorch.config.patch(donated_buffer=False):  # gradcheck goes backward twice
        assert torch.autograd.gradcheck(loss, new.requires_grad_())
    torch._dynamo.reset()


@needs_batch_info
def test_ragged_shapes_do_not_recompile_without_end():
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(policy_loss.loss_and_sums, dynamic=True, backend=counter)
    for step in range(12):
        old, new, advantages, mask, _ = make_batch(2 + step, 3 + 2 * step, step)
        compiled(
            old, new.requires_grad_(), advantages, mask, None,
            informative_coef=torch.tensor(0.3), spurious_coef=torch.tensor(0.1), cap=torch.tensor(0.5),
            ratio_low=torch.tensor(0.8), ratio_high=torch.tensor(1.28), clip_dual=torch.tensor(3.0),
            aggregate=partial(agg_loss, loss_agg_mode="token-mean", batch_num_tokens=torch.tensor(100 + step)),
        )  # fmt: skip
    assert counter.frame_count <= 2


def whole_batch_metrics(batch, config):
    """The channel metrics from all tokens of a mini-batch, in float64."""
    old, new, advantages, mask, _ = (x if x is None else x.double() for x in batch)
    mask = mask.bool()
    knobs = config.policy_loss
    modulated = modulate(advantages, old, mask, knobs.informative_coef, knobs.spurious_coef, knobs.modulation_cap)
    r = (new - old).exp()
    clipped = -modulated * r.clamp(1 - config.clip_ratio, 1 + config.clip_ratio) > -modulated * r
    out = {
        "actor/all/clipfrac": clipped[mask].double().mean().item(),
        "actor/all/clipfrac_dual": ((-modulated * r > -modulated * config.clip_ratio_c) & (modulated < 0))[mask]
        .double()
        .mean()
        .item(),
        "actor/all/ppo_kl": (old - new)[mask].mean().item(),
    }
    for name, channel in (("positive", mask & (advantages > 0)), ("negative", mask & (advantages < 0))):
        count = channel.sum().item()
        a, logp = advantages[channel], old[channel]

        def of(x, channel=channel, count=count):
            return x[channel].double().mean().item() if count else 0.0

        out |= {
            f"actor/{name}/token_share": count / mask.sum().item(),
            f"actor/{name}/adv_abs": of(advantages.abs()),
            f"actor/{name}/adv_abs_modulated": of(modulated.abs()),
            f"actor/{name}/clipfrac": of(clipped),
            f"actor/{name}/surprisal": of(-new),
            f"actor/{name}/logprob_increment": of(new - old),
            f"actor/{name}/cov_logprob_adv": ((logp - logp.mean()) * (a - a.mean())).mean().item() if count else 0.0,
            f"actor/{name}/infinite_share": 0.0,
        }
    return out


def through_verl(batch, cuts, ranks, mode, config):
    """Gradient and logged metrics when verl cuts a mini-batch into micro-batches on ranks (its own functions)."""
    config.global_batch_info.update(
        dp_size=ranks,
        batch_num_tokens=int(batch[3].sum()),
        global_batch_size=int((batch[3].sum(-1) > 0).sum()),
        loss_scale_factor=batch[3].shape[1],
    )
    gradients, per_rank = [], []
    for rows in torch.arange(len(batch[0])).chunk(ranks):
        logged: dict = {}
        for micro in rows.chunk(cuts):
            part = [x if x is None else x[micro] for x in batch]
            _, gradient, metrics = evaluate(compute_policy_loss_entropy_modulated, part, mode, config)
            gradients.append(gradient / ranks)  # FSDP averages over ranks
            append_to_dict(logged, verl_metric.Metric.from_dict(metrics, aggregation=verl_metric.AggregationType.MEAN))
        per_rank.append(pickle.loads(pickle.dumps(logged)))  # gathered between processes
    output: dict = {}
    append_to_dict(
        output, {key: verl_metric.Metric.aggregate_dp([rank[key] for rank in per_rank]) for key in per_rank[0]}
    )
    return torch.cat(gradients), verl_metric.reduce_metrics(output)


@needs_batch_info
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cuts", "ranks"), [(1, 2), (2, 1), (3, 2), (6, 2), (12, 1)])
def test_cutting_a_mini_batch_changes_nothing(cuts, ranks, mode, dtype):
    config = actor(knobs=KNOBS)
    batch = make_batch(12, 9, 3, dtype)
    gradient, metrics = through_verl(batch, cuts, ranks, mode, config)
    whole_gradient, whole = through_verl(batch, 1, 1, mode, config)
    torch.testing.assert_close(gradient, whole_gradient, rtol=1e-6, atol=1e-7)
    expected = whole_batch_metrics(batch, config)
    assert set(expected) == set(whole) - set(SHARED)
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key
        assert whole[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key
        assert type(float(metrics[key])) is float


def test_a_channel_without_tokens_gives_zero_and_no_nan():
    old, new, advantages, mask, _ = make_batch(4, 5, 2)
    _, _, metrics = evaluate(
        compute_policy_loss_entropy_modulated, (old, new, advantages.abs() + 1, mask, None), "token-mean", actor()
    )
    values = {key: float(value.item()) for key, value in metrics.items() if "/negative/" in key}
    assert len(values) == 8
    assert set(values.values()) == {0.0}


def test_pooled_survives_the_mean_of_lists():
    """As verl before 0.7 reduces metrics: `np.mean` of a list of all micro-batches' values."""
    parts = [Pooled(ratio, (1, 2)), Pooled(ratio, (0, 0)), Pooled(ratio, (5, 6))]
    assert verl_metric.reduce_metrics({"x": [part.boxed() for part in parts]})["x"] == pytest.approx(6 / 8)
    assert Pooled(covariance, (0, 0, 0, 0)) == 0.0
    assert Pooled(ratio, (1, 2)) + 1 == 1.5


def test_a_logged_metric_is_a_number_to_every_logger():
    """After verl's own reduction in each version: of a list of all values, or of Metrics over ranks."""
    _, _, metrics = evaluate(compute_policy_loss_entropy_modulated, make_batch(4, 5), "token-mean", actor(knobs=KNOBS))
    logged: dict = {}
    for _ in range(3):
        append_to_dict(logged, metrics)
    logged = verl_metric.reduce_metrics(logged)
    if hasattr(verl_metric, "Metric"):
        mean = verl_metric.AggregationType.MEAN
        ranks = [verl_metric.Metric.from_dict(metrics, aggregation=mean) for _ in range(2)]
        together = {key: verl_metric.Metric.aggregate_dp([rank[key] for rank in ranks]) for key in ranks[0]}
        logged |= {f"dp/{key}": value for key, value in together.items()}
        logged |= {f"one/{key}": value for key, value in verl_metric.reduce_metrics(dict(ranks[0])).items()}
    orjson, msgpack = pytest.importorskip("orjson"), pytest.importorskip("msgpack")
    for key, value in logged.items():
        assert type(value) in (float, np.float64), (key, type(value))
        for there_and_back in (
            lambda x: json.loads(json.dumps(x)),
            lambda x: orjson.loads(orjson.dumps(x, option=orjson.OPT_SERIALIZE_NUMPY)),  # verl's logger `file`
            lambda x: msgpack.unpackb(msgpack.packb(x)),
            lambda x: pickle.loads(pickle.dumps(x)),
            lambda x: np.asarray(x).item(),
            lambda x: torch.tensor(x).item(),
        ):
            assert there_and_back(value) == pytest.approx(float(value), rel=1e-6), key


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("knobs", [{}, KNOBS], ids=["neutral", "modulated"])
def test_a_token_without_a_finite_log_probability(knobs, compiled):
    """As with top-k sampling or masked logits: vanilla's clamp bounds its ratio; here it is not modulated either."""
    old, new, advantages, mask, _ = make_batch(6, 9, 4, torch.float32)
    advantages, mask = advantages.clone(), mask.clone()
    advantages[1], mask[1] = 0.7, True
    old[0, 2] = old[1, 0] = new[1, 5] = float("-inf")
    config = actor(compiled, knobs)
    batch = (old, new, advantages, mask, None)
    loss, gradient, metrics = evaluate(compute_policy_loss_entropy_modulated, batch, "token-mean", config)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    values = {key: float(value) for key, value in metrics.items()}
    assert all(map(math.isfinite, values.values())), values
    count = int((mask & (advantages > 0)).sum())
    assert values["actor/positive/infinite_share"] == pytest.approx((2 + (advantages[0, 2] > 0).item()) / count)
    if not knobs:
        expected, expected_gradient, expected_metrics = evaluate(
            compute_policy_loss_vanilla, batch, "token-mean", config
        )
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)
        assert {key: values[key] for key in SHARED} == pytest.approx(expected_metrics, rel=1e-6, abs=1e-6)
    coefficients = (0.7, 0.4, 0.6)
    modulated = modulate(advantages, old, mask, *coefficients)
    assert modulated[1, 0] == advantages[1, 0]
    without = modulate(advantages[1:2, 1:], old[1:2, 1:], mask[1:2, 1:], *coefficients)
    torch.testing.assert_close(modulated[1:2, 1:], without)


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), float("-inf")])
def test_what_is_outside_the_mask_does_not_matter(rubbish):
    old, new, advantages, mask, _ = make_batch(6, 9, 4, torch.float32)
    config = actor(knobs=KNOBS)
    clean = evaluate(compute_policy_loss_entropy_modulated, (old, new, advantages, mask, None), "token-mean", config)
    old, advantages = torch.where(mask, old, rubbish), torch.where(mask, advantages, 0.0)
    dirty = evaluate(compute_policy_loss_entropy_modulated, (old, new, advantages, mask, None), "token-mean", config)
    assert torch.equal(clean[0], dirty[0])
    assert {key: float(value) for key, value in clean[2].items()} == {
        key: float(value) for key, value in dirty[2].items()
    }


def test_failed_compilation_is_one_warning_and_the_same_loss(monkeypatch, caplog):
    def no_compiler(*args, **kwargs):
        raise RuntimeError("no C++ compiler\nlong trace")

    monkeypatch.setattr(policy_loss, "_compilation", lambda *choice: no_compiler)
    monkeypatch.setattr(policy_loss, "_compile_failures", [])
    batch = make_batch(4, 5)
    eager = evaluate(compute_policy_loss_entropy_modulated, batch, "token-mean", actor(False, KNOBS))[0]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert eager == evaluate(compute_policy_loss_entropy_modulated, batch, "token-mean", actor(True, KNOBS))[0]
    assert [record.getMessage().count("no C++ compiler") for record in caplog.records] == [1]


# 3. the sign, the cap, and the theory


@settings(max_examples=300, deadline=None)
@given(
    advantage=st.floats(-100, 100, allow_subnormal=False).filter(lambda a: a == 0 or abs(a) > 1e-20),
    old=st.lists(st.floats(-1000, 0), min_size=1, max_size=8),
    informative=st.floats(0, 1e6),
    spurious=st.floats(0, 1e6),
    cap=st.one_of(st.floats(0, 1, exclude_max=True), st.just(math.nextafter(1, 0))),
)
def test_sign_is_kept(advantage, old, informative, spurious, cap):
    knobs = {"informative_coef": informative, "spurious_coef": spurious, "modulation_cap": cap}
    seen = {}

    def note(*args):
        seen["modulated"] = modulate(*args)
        return seen["modulated"]

    for dtype in (torch.float32, torch.float64):
        row = torch.tensor([old], dtype=dtype)
        batch = (row, row, torch.full_like(row, advantage), torch.ones_like(row), None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy_loss, "modulate", note)
            evaluate(compute_policy_loss_entropy_modulated, batch, "token-mean", actor(knobs=knobs))
        assert torch.equal(seen["modulated"].sign(), batch[2].sign())


def test_cap_zero_changes_nothing():
    old, _, advantages, mask, _ = make_batch(5, 7)
    assert torch.equal(modulate(advantages, old, mask, 3.0, 2.0, 0.0), advantages)


@pytest.mark.parametrize(
    ("advantage", "knob", "sign"),
    [(1.0, "informative_coef", 1), (-1.0, "spurious_coef", -1), (1.0, "spurious_coef", 0)],
)
def test_entropy_changes_as_the_theory_predicts(advantage, knob, sign):
    """A tabular softmax policy over 4 symbols, and one response with each as often as the policy says: the baseline is
    then -H exactly, and one natural-gradient step changes the entropy by +-eta * kappa * Var(log pi)."""
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    symbols = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 3]])
    logits = probabilities.log().requires_grad_()
    kappa, eta = 0.2, 1e-3
    log_prob = logits.log_softmax(-1)[symbols]
    old = log_prob.detach()
    config = actor(knobs={knob: kappa, "modulation_cap": 0.9})
    advantages = torch.full_like(old, advantage)
    loss, _ = compute_policy_loss_entropy_modulated(
        old, log_prob, advantages, torch.ones_like(old), "token-mean", config
    )
    loss.backward()
    fisher = probabilities.diag() - torch.outer(probabilities, probabilities)
    after = (logits.detach() - eta * torch.linalg.pinv(fisher) @ logits.grad).softmax(-1)

    def entropy(p):
        return -(p * p.log()).sum().item()

    mean = (probabilities * probabilities.log()).sum()
    variance = (probabilities * (probabilities.log() - mean) ** 2).sum().item()
    change = entropy(after) - entropy(probabilities)
    assert change == pytest.approx(sign * eta * kappa * variance, rel=2e-3, abs=1e-12)


# bad input


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("informative_coef", -0.1),
        ("spurious_coef", float("nan")),
        ("informative_coef", float("inf")),
        ("informative_coef", "0.3"),
        ("spurious_coef", True),
        ("modulation_cap", 1.0),
        ("modulation_cap", -0.1),
        ("modulation_cap", None),
    ],
)
def test_bad_knob_names_the_override_path(knob, value):
    with pytest.raises(ConfigError, match=rf"actor_rollout_ref\.actor\.policy_loss\.{knob}=.*Allowed"):
        EntropyModulatedLossConfig(**{knob: value})


def test_verl_builds_our_config_class():
    section = {
        "_target_": "recipe.asymgrpo.loss_config.EntropyModulatedLossConfig",
        "loss_mode": "entropy_modulated",
        "informative_coef": 0.3,
    }
    config = omega_conf_to_dataclass(section)
    assert isinstance(config, EntropyModulatedLossConfig)
    assert isinstance(config, PolicyLossConfig)
    assert (config.informative_coef, config.spurious_coef) == (0.3, 0.0)


def test_missing_config_and_impossible_dual_clip():
    old, new, advantages, mask, _ = make_batch(2, 3)
    with pytest.raises(ValueError, match="config is missing"):
        compute_policy_loss_entropy_modulated(old, new, advantages, mask)
    with pytest.raises(ValueError, match="clip_ratio_c"):
        compute_policy_loss_entropy_modulated(old, new, advantages, mask, "token-mean", actor(clip_ratio_c=0.9))
