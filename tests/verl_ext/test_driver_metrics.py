"""The bridge into the log, with verl's own compute_advantage and compute_data_metrics."""

from __future__ import annotations

import logging
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

ORIGINAL_METRICS, ORIGINAL_ADVANTAGE = metric_utils.compute_data_metrics, ray_trainer.compute_advantage
TRAINERS = list(dict.fromkeys((ray_trainer, trainer_base)))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, caplog):
    """A process that has not called the estimator yet; verl's modules are put back afterwards."""
    caplog.set_level(logging.WARNING, driver_metrics.logger.name)
    monkeypatch.setattr(driver_metrics, "state", driver_metrics.State())
    monkeypatch.setattr(advantage, "observers", [])
    for module in (metric_utils, *TRAINERS):
        monkeypatch.setattr(module, "compute_data_metrics", ORIGINAL_METRICS)
    for module in (ray_trainer, utils):
        monkeypatch.setattr(module, "compute_advantage", ORIGINAL_ADVANTAGE)
    driver_metrics.install()


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
def test_every_step_has_its_own_figures(trainer, caplog):
    first = step(trainer)
    assert first["critic/score/mean"] == pytest.approx(0.5)  # verl's own are there
    assert first["asymgrpo/all_solved"] == 0.5
    assert first["asymgrpo/truncated_groups"] == 1
    assert "asymgrpo/cov_logprob_adv" not in first
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


@pytest.mark.parametrize("trainer", TRAINERS)
def test_moved_function_is_one_warning(trainer, monkeypatch, caplog):
    monkeypatch.delattr(metric_utils, "compute_data_metrics")
    for _ in range(3):
        assert not ours(step(trainer))
    (warning,) = warnings(caplog)
    assert "metric_utils.compute_data_metrics is not where it was" in warning


@pytest.mark.skipif(trainer_base is ray_trainer, reason="the only trainer has it where it was")
def test_moved_advantage_costs_only_the_covariance(monkeypatch, caplog):
    monkeypatch.setattr(utils, "compute_advantage", ORIGINAL_ADVANTAGE)
    monkeypatch.delattr(ray_trainer, "compute_advantage")
    for _ in range(3):
        found = ours(step(trainer_base))
        assert found["asymgrpo/groups"] == 2
        assert "asymgrpo/cov_logprob_adv" not in found
    (warning,) = warnings(caplog)
    assert "ray_trainer.compute_advantage is not where it was" in warning


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
    monkeypatch.setattr(ray_trainer, "compute_advantage", changed)
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
