"""success_key finds what the reward function returned, in verl's legacy trainer and in V1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo import ray_trainer

import verl_ext.plugin  # noqa: F401  (registers)

CONFIG = OmegaConf.create(
    {"algorithm": {"adv_estimator": "asym_grpo", "asym_grpo": {"success_key": "acc", "preset": "grpo"}}}
)
SHAPED = [0.4, 1.0, -0.5, 0.0]  # the first is right, and long
ACC = [True, True, False, False]


def batch(**named) -> DataProto:
    rewards = torch.zeros(4, 2)
    rewards[:, -1] = torch.tensor(SHAPED)
    tensors = {"token_level_rewards": rewards, "response_mask": torch.ones(4, 2, dtype=torch.int64)}
    named["uid"] = np.array(["a"] * 4, dtype=object)
    return DataProto(batch=TensorDict(tensors, batch_size=4), non_tensor_batch=named)


def test_legacy_trainer():
    data = ray_trainer.compute_advantage(batch(acc=np.array(ACC)), adv_estimator="asym_grpo", config=CONFIG.algorithm)
    assert data.batch["advantages"][:, 0].tolist() == [1, 1, -1, -1]
    with pytest.raises(ValueError, match="success_key=acc: there is no such value for each of the 4 responses"):
        ray_trainer.compute_advantage(batch(), adv_estimator="asym_grpo", config=CONFIG.algorithm)


@pytest.mark.parametrize("place", ["extra_fields", "a field of its own", "nowhere"])
def test_v1(place, monkeypatch):
    """With one output a rollout, and with two."""
    utils = pytest.importorskip("verl.trainer.ppo.v1.utils")
    tq = pytest.importorskip("transfer_queue")
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    asked = []

    def kv_batch_get(keys, partition_id, select_fields):
        assert partition_id == "train"
        asked.append(keys)
        acc = [ACC[int(key.split("_")[1])] for key in keys]
        if select_fields == ["extra_fields"]:
            infos = [{"reward_extra_info": {"acc": a}} if place == "extra_fields" else {"turns": a} for a in acc]
            return list_of_dict_to_tensordict([{"extra_fields": info} for info in infos])
        assert select_fields == ["acc"]
        if place == "nowhere":
            raise KeyError("acc")
        return TensorDict({"acc": torch.tensor(acc)}, batch_size=len(acc))

    monkeypatch.setattr(tq, "kv_batch_get", kv_batch_get)

    def advantages(data, keys):
        return utils.compute_advantage_for_multi_trajectories(
            data, batch_keys=keys, adv_estimator="asym_grpo", num_repeat=4, config=CONFIG.algorithm
        ).batch["advantages"][:, 0]

    one = [f"a_{session}_0" for session in range(4)]
    if place == "nowhere":
        with pytest.raises(ValueError, match="success_key=acc"):
            advantages(batch(), one)
        return
    assert advantages(batch(), one).tolist() == [1, 1, -1, -1]
    two = ["a_0_0", "a_0_1", "a_2_0", "a_3_0"]
    half, right = 0.5**0.5, 2**0.5
    found = advantages(batch(), two)
    torch.testing.assert_close(found, torch.tensor([right, right, -half, -half]))
    assert asked[-1 if place == "extra_fields" else -2] == ["a_0_1", "a_2_0", "a_3_0"]  # the last of each rollout
