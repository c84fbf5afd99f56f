"""A trainer that does not hand its configuration to the estimator: it is found, or the run is refused by name."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo import core_algos

import verl_ext.plugin  # noqa: F401  (registers)
from recipe.asymgrpo.config import ConfigError

REWARDS = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
MASK, UIDS = torch.ones(4, 2), np.array(["a"] * 4, dtype=object)
CONFIG = {"algorithm": {"adv_estimator": "asym_grpo", "asym_grpo": {"preset": "maxrl"}}}
MAXRL, PAPER = 3.0, 3.0**0.9  # of a success at p = 1/4


def verls_function(name="verl.trainer.ppo.ray_trainer"):
    """verl's side of the call, as `compute_advantage` without `config=` makes it."""
    code = "def compute_advantage(estimate, *data):\n    return estimate(*data)[0]"
    scope = {"__name__": name}
    exec(code, scope)
    return scope["compute_advantage"]


def call(inside):
    return inside(core_algos.get_adv_estimator_fn("asym_grpo"), REWARDS, MASK, UIDS)[0, 0].item()


class Trainer:
    """As verl-recipe's: it has the configuration and keeps it for itself."""

    def __init__(self, config):
        self.config = config

    def fit(self):
        return call(verls_function())


@pytest.mark.parametrize("config", [OmegaConf.create(CONFIG), CONFIG])
def test_the_trainers_configuration_is_found(config):
    assert Trainer(config).fit() == pytest.approx(MAXRL)


def test_a_configuration_in_the_calling_function_is_found():
    def task(config):
        return call(verls_function("verl.experimental.something"))

    assert task(OmegaConf.create(CONFIG)) == pytest.approx(MAXRL)


def test_no_configuration_anywhere_is_an_error_that_says_what_to_pass():
    for trainer in (Trainer(None), Trainer(SimpleNamespace()), Trainer(OmegaConf.create({"algorithm": {}}))):
        with pytest.raises(ConfigError, match=r"config=self\.config\.algorithm"):
            trainer.fit()


def test_a_direct_call_has_the_defaults():
    assert call(lambda estimate, *data: estimate(*data)[0]) == pytest.approx(PAPER)


def test_verls_own_function_without_config():
    """The real one, called by a trainer as verl-recipe's entropy trainer calls it."""
    from verl import DataProto
    from verl.trainer.ppo import ray_trainer

    class Recipe(Trainer):
        def fit(self):
            tensors = {"token_level_rewards": REWARDS, "response_mask": MASK, "responses": MASK.long()}
            batch = DataProto.from_dict(tensors=tensors, non_tensors={"uid": UIDS})
            return ray_trainer.compute_advantage(batch, adv_estimator="asym_grpo")

    found = Recipe(OmegaConf.create(CONFIG)).fit()
    assert found.batch["advantages"][0, 0].item() == pytest.approx(MAXRL)
