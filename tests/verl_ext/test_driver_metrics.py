"""The bridge into the log, with verl's own compute_advantage and compute_data_metrics."""

from __future__ import annotations

import functools
import logging
import sys
import types

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo import metric_utils, ray_trainer

from recipe.asymgrpo import advantage
from verl_ext import driver_metrics

try:
    from verl.trainer.ppo.v1 import trainer_base, utils
except ModuleNotFoundError as error:  # V1 came with verl 0.9
    if not str(error.name).startswith("verl."):
        raise
    trainer_base = utils = ray_trainer


def original(function):
    """verl's own, where the plugin has already been loaded and stands around it."""
    return function.__wrapped__ if hasattr(function, "of_asym_grpo") else function


ORIGINAL_METRICS, ORIGINAL_ADVANTAGE = map(original, (metric_utils.compute_data_metrics, ray_trainer.compute_advantage))
SESSIONS = "compute_advantage_for_multi_trajectories"
ORIGINAL_SESSIONS = original(getattr(utils, SESSIONS)) if hasattr(utils, SESSIONS) else None
TRAINERS = list(dict.fromkeys((ray_trainer, trainer_base)))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, caplog, early):
    """A process that has not called the estimator yet; verl's modules are put back afterwards.

    `early`: the plugin was there before the trainers were imported. Else it wraps at the estimator's first call.
    """
    caplog.set_level(logging.WARNING, driver_metrics.logger.name)
    monkeypatch.setattr(driver_metrics, "state", driver_metrics.State())
    monkeypatch.setattr(advantage, "observers", [])
    for module in (metric_utils, *TRAINERS):
        monkeypatch.setattr(module, "compute_data_metrics", ORIGINAL_METRICS)
    for module in (ray_trainer, utils):
        monkeypatch.setattr(module, "compute_advantage", ORIGINAL_ADVANTAGE)
    for module in {utils, trainer_base} if ORIGINAL_SESSIONS else ():
        monkeypatch.setattr(module, SESSIONS, ORIGINAL_SESSIONS)
    if not early:
        monkeypatch.setattr(driver_metrics, "after_import", lambda name, action: None)
    driver_metrics.install()


@pytest.fixture(params=[True, False], ids=["early", "late"])
def early(request):
    return request.param


def batch(successes=(1, 0, 0, 0, 1, 1), uids="aaaabb", tokens=4) -> DataProto:
    rows = len(successes)
    rewards = torch.zeros(rows, tokens)
    rewards[:, -1] = torch.tensor(successes, dtype=torch.float32)
    ones = torch.ones(rows, tokens, dtype=torch.int64)
    tensors = {
        "token_level_rewards": rewards,
        "token_level_scores": rewards,
        "response_mask": ones,
        "responses": ones,
        "prompts": ones,
        "attention_mask": torch.ones(rows, 2 * tokens, dtype=torch.int64),
        "old_log_probs": -torch.arange(rows * tokens, dtype=torch.float32).view(rows, tokens) / 10,
    }
    uid = np.array(list(uids), dtype=object)
    return DataProto(batch=TensorDict(tensors, batch_size=rows), non_tensor_batch={"uid": uid})


CONFIG = OmegaConf.create({"algorithm": {"adv_estimator": "asym_grpo"}, "data": {"max_response_length": 4}})


def step(trainer, data=None, config=CONFIG) -> dict:
    """What a trainer does with us in a step, by the names it has imported."""
    compute = utils.compute_advantage if trainer is trainer_base else trainer.compute_advantage
    data = compute(data or batch(), adv_estimator="asym_grpo", config=config.algorithm)
    assert data.batch["advantages"].abs().sum() > 0
    return trainer.compute_data_metrics(batch=data, use_critic=False)


def ours(metrics: dict) -> dict:
    return {key: value for key, value in metrics.items() if key.startswith("asymgrpo/")}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_step_has_its_own_figures(trainer, caplog, early):
    first = step(trainer)
    assert first["critic/score/mean"] == pytest.approx(0.5)  # verl's own are there
    assert first["asymgrpo/all_solved"] == 0.5
    assert first["asymgrpo/truncated_groups"] == 1
    assert ("asymgrpo/cov_logprob_adv" in first) == early  # else this step was already inside the function
    second = step(trainer, batch((0, 0, 0, 0, 1, 0)))
    assert second["asymgrpo/all_solved"] == 0
    assert second["asymgrpo/none_solved"] == 0.5
    assert second["asymgrpo/groups"] == 2
    assert "asymgrpo/cov_logprob_adv" in second
    assert not caplog.records


def test_calls_between_two_logs_are_one_step():
    ray_trainer.compute_advantage(batch(), adv_estimator="asym_grpo", config=CONFIG.algorithm)
    assert step(ray_trainer)["asymgrpo/groups"] == 4


def test_nothing_is_added_where_the_estimator_was_not_called():
    step(ray_trainer)
    data = ray_trainer.compute_advantage(batch(), adv_estimator="grpo", config=CONFIG.algorithm)
    assert not ours(ray_trainer.compute_data_metrics(batch=data, use_critic=False))


def test_without_the_whole_configuration_only_truncation_is_missing():
    alone = OmegaConf.create({"algorithm": {}})
    alone.algorithm._set_parent(None)
    found = ours(step(ray_trainer, config=alone))
    assert found["asymgrpo/groups"] == 2
    assert "asymgrpo/truncated_groups" not in found


def test_configuration_as_a_plain_dict(caplog):
    config = types.SimpleNamespace(algorithm={})
    assert ours(step(ray_trainer, config=config))["asymgrpo/groups"] == 2
    assert not caplog.records


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == driver_metrics.logger.name]


def hide(monkeypatch, name):
    """As a verl that has renamed the function: no module has one of this name."""
    for module in list(sys.modules.values()):
        if callable(getattr(module, "__dict__", {}).get(name)):
            monkeypatch.delattr(module, name)  # delitem would be undone after the fixture's setattr, in the wrong order


@pytest.mark.parametrize("early", [False], indirect=True)  # what was wrapped before cannot vanish
@pytest.mark.parametrize("trainer", TRAINERS)
def test_vanished_function_is_one_warning(trainer, monkeypatch, caplog, early):
    hide(monkeypatch, "compute_data_metrics")
    compute = utils.compute_advantage if trainer is trainer_base else trainer.compute_advantage
    for _ in range(3):
        compute(batch(), adv_estimator="asym_grpo", config=CONFIG.algorithm)
    (warning,) = warnings(caplog)
    assert "metric_utils.compute_data_metrics is not where it was" in warning


@pytest.mark.skipif(trainer_base is ray_trainer, reason="the only trainer has it where it was")
@pytest.mark.parametrize("module", ["verl.trainer.ppo.trainer_utils", "elsewhere"])
def test_moved_functions_are_found(module, monkeypatch, caplog, early):
    """`compute_advantage` in another module, from which the trainer has imported it."""
    moved = types.ModuleType(module)
    moved.compute_advantage = ORIGINAL_ADVANTAGE
    monkeypatch.setitem(sys.modules, module, moved)
    monkeypatch.delattr(ray_trainer, "compute_advantage")
    monkeypatch.setattr(utils, "compute_advantage", ORIGINAL_ADVANTAGE)
    for _ in range(2):
        found = ours(step(trainer_base))
    assert found["asymgrpo/groups"] == 2
    assert "asymgrpo/cov_logprob_adv" in found
    assert not caplog.records


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_other_plugins_wrappers_in_any_order(trainer, before, wraps, monkeypatch, caplog, early):
    """Another plugin has replaced both functions, in the trainer's module only, before ours is installed or after."""
    calls = []

    def around(function):
        def theirs(*args, **kwargs):
            calls.append(function)
            return function(*args, **kwargs)

        theirs.__name__ = function.__name__
        return functools.wraps(function)(theirs) if wraps else theirs

    def replace():
        place = utils if trainer is trainer_base else trainer
        monkeypatch.setattr(place, "compute_advantage", around(vars(place)["compute_advantage"]))
        monkeypatch.setattr(trainer, "compute_data_metrics", around(vars(trainer)["compute_data_metrics"]))

    if before:
        for module in (metric_utils, *TRAINERS):
            monkeypatch.setattr(module, "compute_data_metrics", ORIGINAL_METRICS)
        for module in (ray_trainer, utils):
            monkeypatch.setattr(module, "compute_advantage", ORIGINAL_ADVANTAGE)
        advantage.observers.clear()
        replace()
        driver_metrics.install()
    else:
        replace()
    for number in range(3):
        found = ours(step(trainer))
        assert found["asymgrpo/groups"] == 2
        assert ("asymgrpo/cov_logprob_adv" in found) or number == 0
        assert found["asymgrpo/all_solved"] == 0.5
    assert len(calls) == 6
    assert not caplog.records


def test_changed_signature_and_result_are_one_warning(monkeypatch, caplog):
    def renamed(everything, *, flavour):
        return [flavour]

    renamed.__name__ = "compute_data_metrics"
    for module in (metric_utils, ray_trainer):
        monkeypatch.setattr(module, "compute_data_metrics", renamed)
    for _ in range(3):
        ray_trainer.compute_advantage(batch(), adv_estimator="asym_grpo", config=CONFIG.algorithm)
        assert ray_trainer.compute_data_metrics(1, flavour="new") == ["new"]
    (warning,) = warnings(caplog)
    assert "returned list, not a dict" in warning


def test_changed_batch_of_compute_advantage_is_one_warning(monkeypatch, caplog):
    def changed(data, **kwargs):
        ORIGINAL_ADVANTAGE(data, **kwargs)
        return types.SimpleNamespace(batch=None, data=data)

    changed.__name__ = "compute_advantage"
    monkeypatch.setattr(ray_trainer, "compute_advantage", driver_metrics.with_covariance(changed))
    for _ in range(3):
        ray_trainer.compute_advantage(batch(), adv_estimator="asym_grpo", config=CONFIG.algorithm)
    assert len(warnings(caplog)) == 1


def test_a_figure_that_fails_does_not_stop_the_estimator(monkeypatch, caplog):
    from recipe.asymgrpo import diagnostics

    monkeypatch.setattr(diagnostics, "group_sums", lambda *_: 1 / 0)
    for _ in range(3):
        assert not ours(step(ray_trainer))
    assert "ZeroDivisionError" in warnings(caplog)[0]
    assert len(warnings(caplog)) == 1


def test_nobody_reads_the_figures(monkeypatch, caplog):
    monkeypatch.setattr(driver_metrics, "UNREAD_CALLS", 3)
    for _ in range(7):
        ray_trainer.compute_advantage(batch(), adv_estimator="asym_grpo", config=CONFIG.algorithm)
    (warning,) = warnings(caplog)
    assert "no trainer has asked for them in the last 3 steps" in warning


def test_installing_twice_counts_once():
    driver_metrics.install()
    assert len(advantage.observers) == 1


def filtered(**rollout):
    config = OmegaConf.create(OmegaConf.to_container(CONFIG))
    config.data.max_prompt_length = 4
    config.algorithm.filter_groups = {"enable": True, "metric": "acc"}
    config.actor_rollout_ref = {"rollout": rollout}
    return config


def test_figures_of_groups_that_were_filtered_say_so(caplog):
    found = ours(step(ray_trainer, config=filtered()))
    assert found["asymgrpo/kept/all_solved"] == 0.5
    assert found["asymgrpo/kept/pass_at/1"] > 0
    assert not {key for key in found if key.startswith(("asymgrpo/none", "asymgrpo/pass_at", "asymgrpo/p_hist"))}
    assert "asymgrpo/adv_positive" in found
    (warning,) = warnings(caplog)
    assert "asymgrpo/kept/..." in warning


def test_truncation_is_left_out_where_the_model_length_ends_responses_first(caplog):
    config = filtered(max_model_len=7)
    config.algorithm.filter_groups.enable = False
    assert "asymgrpo/truncated_groups" not in step(ray_trainer, config=config)
    (warning,) = warnings(caplog)
    assert "max_model_len=7" in warning
    config.actor_rollout_ref.rollout.max_model_len = 8
    assert step(ray_trainer, config=config)["asymgrpo/truncated_groups"] == 1


@pytest.mark.skipif(ORIGINAL_SESSIONS is None, reason="this verl has no sessions of several outputs")
@pytest.mark.parametrize("preset", ["grpo", "asymgrpo", "maxrl", "rloo", "reinforce"])
def test_a_rollout_of_several_outputs_has_one_vote(preset, early):
    """Four rollouts as seven rows, two right by their last outputs: p = 2/4, and each row has what its rollout has."""
    keys = ["a_0_0", "a_0_1", "a_1_0", "a_2_1", "a_2_0", "a_2_2", "a_3_0", "pad1f_0_0"]
    right = [0, 1, 0, 0, 0, 1, 0, 0]
    data = batch(right, ["a"] * 7 + ["pad1f"])
    data.batch["response_mask"][7] = 0
    data.batch["response_mask"][4, 2:] = 0
    config = OmegaConf.create({"algorithm": {"asym_grpo": {"preset": preset}}, "data": {"max_response_length": 4}})
    if not early:
        step(ray_trainer)
    compute = functools.partial(vars(utils)[SESSIONS], data, batch_keys=keys, num_repeat=4)
    found = compute(adv_estimator="asym_grpo", config=config.algorithm).batch["advantages"]
    alone = batch([1, 0, 1, 0], "aaaa")
    expected = ray_trainer.compute_advantage(alone, adv_estimator="asym_grpo", config=config.algorithm)
    expected = expected.batch["advantages"][:, 0][[0, 0, 1, 2, 2, 2, 3]]
    assert torch.equal(found[:7], expected[:, None] * data.batch["response_mask"][:7])
    assert not found[7].any()
    metrics = ours(trainer_base.compute_data_metrics(batch=data, use_critic=False))
    assert metrics["asymgrpo/group_accuracy"] == 0.5
    if preset == "grpo":
        theirs = compute(adv_estimator="grpo", config=config.algorithm).batch["advantages"]
        torch.testing.assert_close(found[:7] * (3 / 4) ** 0.5, theirs[:7], rtol=1e-5, atol=1e-5)
