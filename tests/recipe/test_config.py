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
from recipe.asymgrpo.curves import CURVE_KNOBS, PRESETS

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
        *(
            ({"preset": preset, knob: value}, [f"algorithm.asym_grpo.{knob}={value!r}", word, allowed])
            for preset, knob, allowed, out_of_range in (
                ("w_reinforce", "positive_weight", ">= 0", [-0.1]),
                ("f_grpo", "focal_gamma", ">= 0", [-1.0]),
                ("fade", "fade_alpha", ">= 0", [-0.5]),
                ("fade", "fade_delta", "> 0", [0.0, -2.0]),
                ("fade_dynamic", "fade_target", "> 0", [0.0, -2.0]),
                ("a_grae", "agrae_alpha", "> 0 and <= 1", [0.0, -2.0, 1.5]),
                ("qae", "quantile_k", "from 0 to 1", [-0.1, 1.5]),
            )
            for values, word in (
                (out_of_range, "out of range"),
                ((math.inf, math.nan), "not finite"),
                ((True,), "bool"),
                (("0.5",), "str"),
            )
            for value in values
        ),
        *(
            ({"preset": "pass_at_k", "pass_k": k}, [f"algorithm.asym_grpo.pass_k={k!r} is", word, "integer from 1 to"])
            for k, word in ((0, "range"), (-4, "range"), (2**63, "range"), (4.5, "float"), (4.0, "float"))
        ),
        ({"preset": "pass_at_k", "pass_k": True}, ["algorithm.asym_grpo.pass_k=True", "bool", "rollout.n"]),
        ({"preset": "pass_at_k", "pass_k": "4"}, ["algorithm.asym_grpo.pass_k='4'", "str"]),
        ({"preset": "rloo", "beta_pos": 0.9}, ["algorithm.asym_grpo.beta_pos=0.9", "preset=rloo", "Its knobs: none"]),
        ({"preset": "fade", "beta_neg": 0}, ["asym_grpo.beta_neg=0", "preset=fade", "knobs: fade_alpha, fade_delta."]),
        ({"preset": "qae", "pass_k": 4}, ["asym_grpo.pass_k=4", "preset=qae", "Its knobs: quantile_k."]),
        ({"fade_delta": 1.0}, ["asym_grpo.fade_delta=1.0", "preset=asymgrpo", "Its knobs: beta_pos, beta_neg."]),
        ({"focal_gama": 1.0}, ["algorithm.asym_grpo.focal_gama", "did you mean 'focal_gamma'?", "pass_k"]),
        ({"success_key": ""}, ["algorithm.asym_grpo.success_key=''", "e.g. acc"]),
        ({"success_key": 1}, ["algorithm.asym_grpo.success_key=1"]),
        ({"on_no_signal": "rais"}, ["algorithm.asym_grpo.on_no_signal='rais'", "did you mean 'raise'?"]),
        ({"on_no_signal": True}, ["algorithm.asym_grpo.on_no_signal=True", "Allowed: warn, raise"]),
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


@every_carrier
def test_the_knobs_of_every_preset_are_read(algorithm):
    for preset, own in PRESETS.items():
        config = AsymGRPOConfig.from_algorithm(algorithm({"preset": preset}))
        assert config.curve_knobs == own.knobs
        other = {knob: 3 if knob == "pass_k" else 0.75 for knob in own.knobs}
        config = AsymGRPOConfig.from_algorithm(algorithm({"preset": preset, **other}))
        assert config.curve_knobs == other
        nulls = {field.name: None for field in dataclasses.fields(AsymGRPOConfig) if field.default is None}
        assert AsymGRPOConfig.from_algorithm(algorithm({"preset": preset, **nulls})) == AsymGRPOConfig(preset)


@pytest.mark.parametrize("k", [1, 8, 5000, np.int64(4)])
def test_pass_k_is_a_plain_integer(k):
    assert type(AsymGRPOConfig("pass_at_k", pass_k=k).pass_k) is int


@pytest.mark.parametrize(("knob", "value"), [("quantile_k", 0), ("quantile_k", 1), ("fade_alpha", 0)])
def test_ends_of_a_range_are_allowed(knob, value):
    preset = "qae" if knob == "quantile_k" else "fade"
    assert AsymGRPOConfig(preset, **{knob: value}).curve_knobs[knob] == value


def test_every_curve_knob_is_a_field():
    assert set(CURVE_KNOBS) < {field.name for field in dataclasses.fields(AsymGRPOConfig)}


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
