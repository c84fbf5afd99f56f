from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from recipe.asymgrpo import advantage
from recipe.asymgrpo.advantage import compute_asym_grpo_advantage, reset_warnings
from recipe.asymgrpo.config import AsymGRPOConfig, ConfigError
from recipe.asymgrpo.curves import PRESETS, curves

LOGGER = "verl.recipe.asymgrpo.advantage"


@pytest.fixture(autouse=True)
def _fresh_warnings():
    reset_warnings()


@pytest.fixture
def warned(caplog):
    """The warnings given so far, as text."""
    caplog.set_level(logging.WARNING, LOGGER)
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOGGER]


def batch(scores, lengths=None, tokens=4, dtype=torch.float32, mask_dtype=torch.int64):
    """Rewards (score on the last token) and mask of rows with these lengths."""
    lengths = torch.tensor([tokens] * len(scores) if lengths is None else lengths, dtype=torch.int64)
    rewards = torch.zeros(len(scores), tokens, dtype=dtype)
    rewards[torch.arange(len(scores)), (lengths - 1).clamp_min(0)] = torch.tensor(scores, dtype=dtype)
    return rewards, (torch.arange(tokens) < lengths[:, None]).to(mask_dtype)


def estimate(scores, index, lengths=None, use_kl_in_reward=False, **knobs):
    """(B,) advantages of rows with these scores: the first token's, after checking that a row is one scalar."""
    rewards, mask = batch(scores, lengths)
    config = {"asym_grpo": knobs, "use_kl_in_reward": use_kl_in_reward}
    advantages, returns = compute_asym_grpo_advantage(rewards, mask, index=np.array(index, dtype=object), config=config)
    assert returns is advantages
    assert torch.equal(advantages, advantages[:, :1] * mask)
    return advantages[:, 0]


def every_count(n):
    """Scores and uids of groups of n with 0, 1, ..., n successes."""
    scores = [float(row < c) for c in range(n + 1) for row in range(n)]
    return scores, [f"uid-{c}" for c in range(n + 1) for _ in range(n)]


# --- values ---


@pytest.mark.parametrize("n", [1, 2, 8, 64])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_row_gets_its_groups_curve(preset, n):
    scores, uids = every_count(n)
    f, g = curves(AsymGRPOConfig(preset), torch.arange(n + 1), torch.full((n + 1,), n))  # test_curves checks these
    expected = torch.stack([f[r // n] if score else -g[r // n] for r, score in enumerate(scores)]).float()
    torch.testing.assert_close(estimate(scores, uids, preset=preset), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_half_and_half_is_verls_grpo_up_to_the_sample_std(n):
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    scores, uids = every_count(n)
    rewards, mask = batch(scores)
    index = np.array(uids, dtype=object)
    ours, _ = compute_asym_grpo_advantage(rewards, mask, index, {"asym_grpo": {"preset": "grpo"}})
    verls, _ = get_adv_estimator_fn("grpo")(rewards, mask, index)  # sample std, plus 1e-6
    torch.testing.assert_close(math.sqrt((n - 1) / n) * ours, verls, rtol=1e-5, atol=1e-5)


def test_the_papers_numbers():
    advantages = estimate([1.0, 0.0, 0.0, 0.0], ["a"] * 4)
    torch.testing.assert_close(advantages, torch.tensor([3**0.9] + 3 * [-((1 / 3) ** 0.4)]))


def test_explicit_beta_overrides_the_preset():
    advantages = estimate([1.0, 0.0, 0.0, 0.0], ["a"] * 4, preset="grpo", beta_pos=2)
    torch.testing.assert_close(advantages, torch.tensor([9.0] + 3 * [-(3**-0.5)]))


def test_max_abs_advantage_bounds_both_signs():
    scores, uids = every_count(8)
    free = estimate(scores, uids)
    bounded = estimate(scores, uids, max_abs_advantage=1.5)
    torch.testing.assert_close(bounded, free.clamp(-1.5, 1.5))
    assert bounded.max() == 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_huge_advantage_saturates_instead_of_overflowing(dtype):
    rewards, mask = batch([1.0] + [0.0] * 63, dtype=dtype)
    advantages, _ = compute_asym_grpo_advantage(rewards, mask, ["a"] * 64, {"asym_grpo": {"beta_pos": 1000}})
    assert advantages[0, 0] == torch.finfo(dtype).max


# --- invariances ---


@pytest.mark.parametrize("preset", PRESETS)
def test_zero_one_and_minus_one_one_are_the_same(preset):
    scores, uids = every_count(8)
    signed = [2 * score - 1 for score in scores]
    assert torch.equal(estimate(scores, uids, preset=preset), estimate(signed, uids, preset=preset))


def test_the_threshold_moves_the_line():
    assert torch.equal(
        estimate([0.2, 0.4, 0.2, 0.2], ["a"] * 4, success_threshold=0.3), estimate([0.0, 1.0, 0.0, 0.0], ["a"] * 4)
    )


def test_shuffled_rows_give_shuffled_advantages():
    scores, uids = every_count(8)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    shuffled = estimate([scores[i] for i in order], [uids[i] for i in order])
    assert torch.equal(shuffled, estimate(scores, uids)[order])


def test_names_of_uids_do_not_matter():
    scores, uids = every_count(8)
    numbers = [int(uid[4:]) for uid in uids]
    assert torch.equal(estimate(scores, uids), estimate(scores, numbers))
    rewards, mask = batch(scores)
    for index in (torch.tensor(numbers), numbers, np.array(numbers), np.array(uids)):
        advantages, _ = compute_asym_grpo_advantage(rewards, mask, index, None)
        assert torch.equal(advantages[:, 0], estimate(scores, uids))


@pytest.mark.parametrize("padded_reward", [0.0, 1.0, math.nan, math.inf])
@pytest.mark.parametrize("padded_uid", ["pad0", "a"])
def test_rows_without_a_token_get_zero_and_touch_nothing(padded_reward, padded_uid, warned):
    scores, uids = [1.0, 0.0, 0.0, 0.0], ["a"] * 4
    with_padding = estimate([*scores, padded_reward, padded_reward], [*uids, padded_uid, padded_uid], [4] * 4 + [0] * 2)
    assert torch.equal(with_padding[:4], estimate(scores, uids))
    assert with_padding[4:].tolist() == [0.0, 0.0]
    assert warned() == []


def test_a_response_may_start_with_tokens_that_are_not_the_models():
    rewards, mask = batch([1.0, 0.0])
    mask[0] = torch.tensor([0, 0, 1, 1])
    advantages, _ = compute_asym_grpo_advantage(rewards, mask, ["a", "a"])
    assert advantages.tolist() == [[0, 0, 1, 1], [-1, -1, -1, -1]]


# --- verl's contract ---


@pytest.mark.parametrize("mask_dtype", [torch.int64, torch.bool, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_shape_dtype_and_untouched_arguments(dtype, mask_dtype):
    rewards, mask = batch([1.0, 0.0, 0.0, 0.0], [4, 1, 2, 3], dtype=dtype, mask_dtype=mask_dtype)
    rewards.requires_grad_()
    given_rewards, given_mask = rewards.detach().clone(), mask.clone()
    advantages, returns = compute_asym_grpo_advantage(
        token_level_rewards=rewards,
        response_mask=mask,
        index=np.array(["a"] * 4, dtype=object),
        config=OmegaConf.create({"adv_estimator": "asym_grpo", "use_kl_in_reward": False}),
        reward_baselines=torch.zeros(4),
    )
    for result in (advantages, returns):
        assert result.shape == (4, 4)
        assert result.dtype == dtype
        assert result.device == rewards.device
        assert not result.requires_grad
    assert torch.equal(rewards.detach(), given_rewards)
    assert torch.equal(mask, given_mask)
    expected = torch.tensor([3**0.9] + 3 * [-(3**-0.4)], dtype=torch.float64).to(dtype)
    assert torch.equal(advantages, expected[:, None] * mask.to(dtype))


def test_integer_rewards_give_floating_advantages():
    advantages, _ = compute_asym_grpo_advantage(torch.tensor([[1], [0], [0]]), torch.ones(3, 1), ["a"] * 3)
    torch.testing.assert_close(advantages[:, 0], torch.tensor([2**0.9, -(2**-0.4), -(2**-0.4)]))


@pytest.mark.parametrize("shape", [(0, 4), (0, 0), (3, 0)])
def test_nothing_in_nothing_out(shape, warned):
    advantages, returns = compute_asym_grpo_advantage(torch.zeros(shape), torch.zeros(shape), ["a"] * shape[0])
    assert advantages.shape == returns.shape == shape
    assert warned() == []


def test_works_through_verls_compute_advantage():
    from verl import DataProto
    from verl.trainer.ppo.ray_trainer import compute_advantage

    import verl_ext.plugin  # noqa: F401

    rewards, mask = batch([1.0, 0.0, 0.0, 0.0])
    data = DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask},
        non_tensors={"uid": np.array(["a"] * 4, dtype=object)},
    )
    config = OmegaConf.create({"adv_estimator": "asym_grpo", "asym_grpo": {"preset": "maxrl"}})
    data = compute_advantage(data, adv_estimator=config.adv_estimator, config=config)
    torch.testing.assert_close(data.batch["advantages"][:, 0], torch.tensor([3.0, -1.0, -1.0, -1.0]))


# --- errors ---


def test_a_wrong_knob_is_an_error_before_any_tensor_work():
    with pytest.raises(ConfigError, match=r"algorithm\.asym_grpo\.beta_pos"):
        compute_asym_grpo_advantage(None, None, None, {"asym_grpo": {"beta_pos": "high"}})


def test_missing_index_names_the_remedy():
    rewards, mask = batch([1.0])
    with pytest.raises(ValueError, match=r"adv_estimator=asym_grpo.*`index`.*non_tensor_batch\[\"uid\"\]"):
        compute_asym_grpo_advantage(rewards, mask, config={})


@pytest.mark.parametrize("index", [["a"], np.array([["a"], ["b"]]), torch.tensor(3), []])
def test_index_of_another_length(index):
    rewards, mask = batch([1.0, 0.0])
    with pytest.raises(ValueError, match=r"one group id per row, got shape .* for 2 rows"):
        compute_asym_grpo_advantage(rewards, mask, index)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        compute_asym_grpo_advantage(torch.zeros(2, 3), torch.ones(2, 4), ["a", "a"])
    with pytest.raises(ValueError, match=r"\(2,\) and \(2,\)"):
        compute_asym_grpo_advantage(torch.zeros(2), torch.ones(2), ["a", "a"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite(bad):
    with pytest.raises(ValueError, match=r"2 of 4 responses is NaN or infinite \(uid 'b', 'c'\)"):
        estimate([1.0, bad, 0.0, bad, bad], ["a", "b", "b", "c", "pad"], [4, 4, 4, 4, 0])


def test_nan_on_a_masked_token_of_a_counted_row_counts():
    rewards, mask = batch([1.0, 0.0], [2, 2])
    rewards[1, 3] = math.nan  # verl's score is the sum over the whole row, and so is ours
    with pytest.raises(ValueError, match="1 of 2 responses"):
        compute_asym_grpo_advantage(rewards, mask, ["a", "a"])


# --- warnings ---


def test_more_than_two_scores_warn_once(warned):
    for _ in range(2):
        estimate([0.0, 0.25, 1.0, 0.7], ["a"] * 4)
    (message,) = warned()
    assert "from 0 to 1" in message
    assert "score > 0.5 is a success (here 2 of 4 responses)" in message
    assert "algorithm.asym_grpo.success_threshold" in message
    reset_warnings()
    estimate([0.0, 0.25, 1.0, 0.7], ["a"] * 4)
    assert len(warned()) == 2


@pytest.mark.parametrize("scores", [[0.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0] * 3, [0.3, 0.7, 0.3]])
def test_two_scores_or_fewer_do_not_warn(scores, warned):
    estimate(scores, ["a"] * 3)
    assert warned() == []


def test_groups_of_one_warn_once(warned):
    for _ in range(2):
        assert estimate([1.0, 0.0, 1.0, 0.0], ["a", "b", "c", "c"]).tolist() == [0, 0, 1, -1]
    (message,) = warned()
    assert "nothing can be learned from 2 of 3 groups" in message
    assert "actor_rollout_ref.rollout.n" in message


def test_groups_of_one_that_do_teach_are_silent(warned):
    assert estimate([1.0, 0.0], ["a", "b"], preset="reinforce").tolist() == [1, -1]
    assert warned() == []


def test_groups_smaller_than_pass_k_warn_once(warned):
    scores, uids = [1.0, 0.0] * 4, ["a", "a", "b", "b", "b", "b", "c", "d"]
    for _ in range(2):
        advantages = estimate(scores, uids, preset="pass_at_k", pass_k=3)
    assert advantages[[0, 1, 6, 7]].tolist() == [0.0] * 4
    (message,) = warned()
    assert "nothing can be learned from 3 of 4 groups: they have 1 to 2 responses each" in message
    assert "algorithm.asym_grpo.pass_k=3" in message
    assert "actor_rollout_ref.rollout.n to 3 or more" in message


def test_groups_as_large_as_pass_k_are_silent(warned):
    assert estimate([1.0, 0.0, 0.0], ["a"] * 3, preset="pass_at_k", pass_k=2).ne(0).all()
    assert warned() == []


@pytest.mark.parametrize("preset", ["rloo", "pass_at_k"])
def test_groups_of_one_teach_these_presets_nothing(preset, warned):
    assert estimate([1.0, 0.0], ["a", "b"], preset=preset).tolist() == [0, 0]
    (message,) = warned()
    assert "nothing can be learned from 2 of 2 groups" in message


def test_kl_in_reward_warns_once(warned):
    for _ in range(2):
        estimate([1.0, 0.0], ["a"] * 2, use_kl_in_reward=True)
    (message,) = warned()
    assert "algorithm.use_kl_in_reward=True" in message
    assert "no longer the verifier's" in message


# --- properties ---

responses = st.tuples(st.booleans(), st.integers(0, 3))  # success, number of tokens
ragged_groups = st.lists(st.lists(responses, min_size=1, max_size=12), min_size=1, max_size=6)
exponents = st.floats(-3, 3, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(groups=ragged_groups, beta_pos=exponents, beta_neg=exponents, signed=st.booleans(), seed=st.integers(0, 99))
def test_ragged_groups(groups, beta_pos, beta_neg, signed, seed):
    rows = [(uid, success, length) for uid, group in enumerate(groups) for success, length in group]
    order = np.random.default_rng(seed).permutation(len(rows))
    rows = [rows[i] for i in order]
    low = -1.0 if signed else 0.0

    def run(rows):
        scores = [1.0 if success else low for _, success, _ in rows]
        uids, lengths = [f"u{uid}" for uid, _, _ in rows], [length for _, _, length in rows]
        return estimate(scores, uids, lengths, beta_pos=beta_pos, beta_neg=beta_neg)

    advantages = run(rows)
    assert bool(advantages.isfinite().all())
    for uid in range(len(groups)):
        own = [i for i, row in enumerate(rows) if row[0] == uid]
        counted = [i for i in own if rows[i][2] > 0]
        mixed = len({rows[i][1] for i in counted}) == 2
        for i in own:
            sign = 1 if rows[i][1] else -1
            if i not in counted:
                assert advantages[i] == 0
            elif mixed:
                assert advantages[i] * sign > 0
            else:
                assert advantages[i] * sign >= 0
        assert torch.equal(advantages[own], run([rows[i] for i in own]))  # a group sees no other


@pytest.mark.parametrize(
    ("scores", "threshold", "told"),
    [
        ([1.0, 2.0, 1.0, 2.0], None, 1.5),  # format plus accuracy
        ([0.0, 0.5, 0.5, 0.0], None, 0.25),
        ([-1.0, 0.0, 0.0, -1.0], None, -0.5),
        ([0.0, 0.1, 0.0, 0.1], None, 0.05),
        ([0.6, 1.0, 0.6, 1.0], None, 0.8),
        ([1.0, 1.0, 1.0, 1.0], None, None),  # all solved: nothing to say
        ([0.0, 1.0, 0.0, 1.0], None, None),
        ([0.0, 1.0, 0.0, 1.0], 2.0, 0.5),
    ],
)
def test_scores_on_one_side_of_the_threshold_are_named_with_one_that_separates_them(scores, threshold, told, caplog):
    reset_warnings()
    rewards = torch.tensor(scores)[:, None]
    knobs = {} if threshold is None else {"success_threshold": threshold}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            compute_asym_grpo_advantage(rewards, torch.ones(4, 1), ["a"] * 4, {"asym_grpo": knobs})
    found = [record.getMessage() for record in caplog.records if "nothing is learned" in record.getMessage()]
    if told is None:
        assert not found
        return
    assert len(found) == 1
    assert f"+algorithm.asym_grpo.success_threshold={told:g}" in found[0]
    advantages, _ = compute_asym_grpo_advantage(
        rewards, torch.ones(4, 1), ["a"] * 4, {"asym_grpo": {"success_threshold": told}}
    )
    assert advantages.unique().numel() == 2


SHAPED = torch.tensor([[1.0], [0.4], [-0.5], [0.1]])  # 0.4: right, but too long
ACC = {"acc": np.array([True, True, False, False], dtype=object)}


def test_success_key_is_what_counts_and_shaping_changes_no_advantage():
    config = {"asym_grpo": {"success_key": "acc", "preset": "grpo"}}
    shaped, _ = compute_asym_grpo_advantage(SHAPED, torch.ones(4, 1), ["a"] * 4, config, non_tensor_batch=ACC)
    plain, _ = compute_asym_grpo_advantage(
        torch.tensor([[1.0], [1.0], [0.0], [0.0]]), torch.ones(4, 1), ["a"] * 4, {"asym_grpo": {"preset": "grpo"}}
    )
    assert torch.equal(shaped, plain)
    by_sum, _ = compute_asym_grpo_advantage(SHAPED, torch.ones(4, 1), ["a"] * 4, {"asym_grpo": {"preset": "grpo"}})
    assert not torch.equal(shaped, by_sum)
    counted = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    padded = {"acc": [1, 0.0, np.bool_(False), None]}  # the last row does not count, so it needs none
    found, _ = compute_asym_grpo_advantage(SHAPED, counted, ["a"] * 4, config, non_tensor_batch=padded)
    torch.testing.assert_close(found[:, 0], torch.tensor([2**0.5, -(0.5**0.5), -(0.5**0.5), 0.0]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "success_key=acc: there is no such value"),
        ({"score": [1] * 4}, "success_key=acc: there is no such value"),
        ({"acc": [1] * 3}, "for each of the 4 responses"),
        ({"acc": [1, 0, None, 1]}, "the acc of 1 of 4 responses"),
        ({"acc": [1, 0, "yes", 1]}, "the acc of 1 of 4 responses"),
    ],
)
def test_success_key_without_its_values(given, words, monkeypatch):
    monkeypatch.setattr(advantage, "find_verdicts", None)
    with pytest.raises(ValueError, match=words):
        compute_asym_grpo_advantage(
            SHAPED, torch.ones(4, 1), ["a"] * 4, {"asym_grpo": {"success_key": "acc"}}, non_tensor_batch=given
        )


@pytest.mark.parametrize(("preset", "ends"), [("asymgrpo", True), ("reinforce", False)])
def test_no_signal_ends_a_run_that_asked_for_it(preset, ends):
    def step(scores, **knobs):
        rewards = torch.tensor(scores)[:, None]
        return compute_asym_grpo_advantage(
            rewards, torch.ones(4, 1), ["a"] * 4, {"asym_grpo": {"preset": preset, **knobs}}
        )

    reset_warnings()
    for _ in range(19):
        step([1.0, 2.0, 1.0, 2.0], on_no_signal="raise")
    step([0.0, 2.0, 1.0, 2.0], on_no_signal="raise")  # learns, and the count begins anew
    for _ in range(19):
        step([1.0, 2.0, 1.0, 2.0], on_no_signal="raise")
    if ends:
        with pytest.raises(RuntimeError, match=r"last 20 batches.*scores of the last: 1, 2.*success_threshold"):
            step([1.0, 2.0, 1.0, 2.0], on_no_signal="raise")
        step([1.0, 2.0, 1.0, 2.0])  # the default goes on
    else:  # a constant curve learns from groups on one side too
        step([1.0, 2.0, 1.0, 2.0], on_no_signal="raise")
    reset_warnings()


def test_no_signal_by_the_preset_is_no_fault_of_the_reward():
    """pass_at_k with more successes than failures that k allows; and batches of which nothing counts say nothing."""
    settings = {"asym_grpo": {"preset": "pass_at_k", "pass_k": 3, "on_no_signal": "raise"}}
    rewards, counted = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None], torch.ones(4, 1)
    reset_warnings()
    for _ in range(19):
        compute_asym_grpo_advantage(rewards, counted, ["a"] * 4, settings)
    for _ in range(5):
        compute_asym_grpo_advantage(rewards, torch.zeros(4, 1), ["a"] * 4, settings)
    with pytest.raises(RuntimeError, match=r"last 20 batches: preset pass_at_k gives 0 for these shares"):
        compute_asym_grpo_advantage(rewards, counted, ["a"] * 4, settings)
    reset_warnings()


def test_one_response_left_by_rejection_is_no_small_n(warned):
    mask = torch.ones(8, 1)
    mask[1:4] = 0
    compute_asym_grpo_advantage(torch.tensor([1.0, 0.0] * 4)[:, None], mask, [*"aaaabbbb"], {})
    (message,) = warned()
    assert "1 of 2 groups" in message
    assert "With rejected samples a few such groups are to be expected; else set" in message


def test_norm_adv_by_std_in_grpo_is_named_as_not_ours(warned):
    for value in (True, False, False):
        compute_asym_grpo_advantage(
            torch.tensor([[1.0], [0.0]]), torch.ones(2, 1), ["a"] * 2, {"norm_adv_by_std_in_grpo": value}
        )
    (message,) = warned()
    assert "norm_adv_by_std_in_grpo=False" in message
    assert "algorithm.asym_grpo.preset=dr_grpo" in message
