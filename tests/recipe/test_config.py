from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import timeit
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from recipe.asymgrpo.config import AsymGRPOConfig, ConfigError

ROOT = Path(__file__).resolve().parents[2]


def as_dict(knobs):
    return {"adv_estimator": "asym_grpo", "asym_grpo": knobs}


def as_omegaconf(knobs):
    config = OmegaConf.create({"gamma": 1.0, "asym_grpo": knobs})
    OmegaConf.set_struct(config, True)  # as Hydra hands it over
    return config


def as_object(knobs):
    return SimpleNamespace(asym_grpo=knobs)


every_carrier = pytest.mark.parametrize("algorithm", [as_dict, as_omegaconf, as_object])


def test_defaults_are_the_papers():
    config = AsymGRPOConfig()
    assert (config.preset, config.success_threshold, config.max_abs_advantage) == ("asymgrpo", 0.5, None)
    assert config.curve_knobs == {"beta_pos": 0.9, "beta_neg": 0.4}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.preset = "grpo"  # type: ignore[misc]


@pytest.mark.parametrize("config", [None, {}, {"asym_grpo": None}, {"asym_grpo": {}}, OmegaConf.create({"gamma": 1.0})])
def test_nothing_given_is_the_default(config):
    assert AsymGRPOConfig.from_algorithm(config) == AsymGRPOConfig()


def test_struct_mode_without_the_key_is_the_default():
    config = OmegaConf.create({"gamma": 1.0})
    OmegaConf.set_struct(config, True)
    assert AsymGRPOConfig.from_algorithm(config) == AsymGRPOConfig()


def test_verls_own_dataclass_is_the_default():
    from verl.trainer.config import AlgoConfig

    assert AsymGRPOConfig.from_algorithm(AlgoConfig()) == AsymGRPOConfig()


@every_carrier
def test_every_knob_is_read(algorithm):
    knobs = {
        "preset": "grpo",
        "beta_pos": 1,
        "beta_neg": -0.25,
        "success_threshold": 0,
        "max_abs_advantage": 5,
    }
    config = AsymGRPOConfig.from_algorithm(algorithm(knobs))
    assert config == AsymGRPOConfig("grpo", 1.0, -0.25, 0.0, 5.0)
    assert all(type(getattr(config, knob)) is float for knob in knobs if knob != "preset")


def test_interpolations_are_resolved():
    config = OmegaConf.create({"strength": 0.7, "asym_grpo": {"beta_pos": "${strength}"}})
    assert AsymGRPOConfig.from_algorithm(config).beta_pos == 0.7


def test_an_explicit_beta_overrides_the_presets():
    assert AsymGRPOConfig("reinforce", beta_neg=0.3).curve_knobs == {"beta_pos": 0.0, "beta_neg": 0.3}
    assert AsymGRPOConfig("asymgrpo", beta_pos=0).curve_knobs == {"beta_pos": 0.0, "beta_neg": 0.4}


def test_numpy_numbers_and_a_ready_config_are_taken():
    assert AsymGRPOConfig(beta_pos=np.float32(0.5)).beta_pos == 0.5
    ready = AsymGRPOConfig("grpo")
    assert AsymGRPOConfig.from_algorithm({"asym_grpo": ready}) is ready


@every_carrier
@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"beta_post": 1.0}, ["algorithm.asym_grpo.beta_post", "did you mean 'beta_pos'?", "max_abs_advantage"]),
        ({"zzz": 1.0}, ["algorithm.asym_grpo.zzz", "Allowed: preset, beta_pos, beta_neg, success_threshold"]),
        ({"preset": "asymgrop"}, ["algorithm.asym_grpo.preset='asymgrop'", "did you mean 'asymgrpo'?", "maxrl"]),
        ({"preset": "GRPO"}, ["algorithm.asym_grpo.preset='GRPO'", "did you mean 'grpo'?"]),
        ({"preset": 3}, ["algorithm.asym_grpo.preset=3", "reinforce"]),
        ({"preset": None}, ["algorithm.asym_grpo.preset=None", "asymgrpo"]),
        ({"beta_pos": "0.9"}, ["algorithm.asym_grpo.beta_pos='0.9'", "str", "finite number"]),
        ({"beta_neg": True}, ["algorithm.asym_grpo.beta_neg=True", "bool"]),
        ({"beta_pos": [0.9]}, ["algorithm.asym_grpo.beta_pos=[0.9]", "list"]),
        ({"beta_pos": math.nan}, ["algorithm.asym_grpo.beta_pos=nan", "not finite"]),
        ({"beta_neg": -math.inf}, ["algorithm.asym_grpo.beta_neg=-inf", "not finite"]),
        ({"success_threshold": None}, ["algorithm.asym_grpo.success_threshold=None"]),
        ({"success_threshold": math.inf}, ["algorithm.asym_grpo.success_threshold=inf"]),
        ({"max_abs_advantage": 0}, ["algorithm.asym_grpo.max_abs_advantage=0.0", "> 0"]),
        ({"max_abs_advantage": -1.5}, ["algorithm.asym_grpo.max_abs_advantage=-1.5", "> 0"]),
        ({"max_abs_advantage": "none"}, ["algorithm.asym_grpo.max_abs_advantage='none'", "null"]),
        (0.9, ["algorithm.asym_grpo=0.9", "mapping", "+algorithm.asym_grpo.beta_pos="]),
        ([0.9, 0.4], ["algorithm.asym_grpo=[0.9, 0.4]", "list"]),
        ("grpo", ["algorithm.asym_grpo='grpo'", "str"]),
    ],
)
def test_errors_name_path_and_allowed_values(algorithm, knobs, words):
    with pytest.raises(ConfigError) as error:
        AsymGRPOConfig.from_algorithm(algorithm(knobs))
    for word in words:
        assert word in str(error.value)


def test_an_integer_beyond_every_float_is_not_finite():
    with pytest.raises(ConfigError, match="not finite"):
        AsymGRPOConfig(beta_pos=10**400)


def test_resolving_costs_little_each_step():
    config = as_omegaconf({"preset": "grpo", "beta_pos": 0.9})
    assert min(timeit.repeat(lambda: AsymGRPOConfig.from_algorithm(config), number=10, repeat=5)) / 10 < 5e-3


def test_validation_needs_the_standard_library_only():
    code = (
        "import sys; import recipe.asymgrpo.config; heavy = {'torch', 'numpy', 'omegaconf', 'verl'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
