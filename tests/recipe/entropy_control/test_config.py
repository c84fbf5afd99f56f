"""Bad settings of the entropy control are errors that name the override."""

import re
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from recipe.asymgrpo.config import AsymGRPOConfig, ConfigError
from recipe.asymgrpo.entropy_control import WAYS, EntropyControlConfig

PATH = "algorithm.asym_grpo.entropy_control"
CASES = [
    ({"way": "succeses"}, "way='succeses' is not known: did you mean 'successes'?"),
    ({"way": ["successes", "bonus"]}, "way=['successes', 'bonus'] is not known"),
    ({"unit": "bits"}, "unit='bits' is not known"),
    ({"floor": 0}, "floor=0 is out of range"),
    ({"floor": -0.5}, "floor=-0.5 is out of range"),
    ({"floor": float("nan")}, "floor=nan is out of range"),
    ({"floor": float("inf")}, "floor=inf is out of range"),
    ({"floor": "0.5"}, "floor='0.5' is a str"),
    ({"floor": True}, "floor=True is a bool"),
    ({"floor": None}, "floor and ceiling are both null"),
    ({"ceiling": 0}, "ceiling=0 is out of range"),
    ({"floor": 0.6, "ceiling": 0.5}, "floor=0.6 is above"),
    ({"final_floor": 0.7}, "final_floor=0.7 is above"),
    ({"ceiling": 1.0, "final_ceiling": 1.1}, "final_ceiling=1.1 is above"),
    ({"ceiling": 1.0, "final_ceiling": 0.4}, "final_floor=0.5 is above"),
    ({"final_ceiling": 0.4}, "final_ceiling=0.4 needs"),
    ({"gain": -1}, "gain=-1 is out of range"),
    ({"way": "filter", "gain": 1}, "gain=1 is not a knob of"),
    ({"way": "repo", "gain": 1}, "gain=1 is out of range"),
    ({"modulation_cap": 1}, "modulation_cap=1 is out of range"),
    ({"modulation_cap": None}, "modulation_cap=None is a NoneType"),
    ({"way": "bonus", "modulation_cap": 0.5}, "modulation_cap=0.5 is not a knob of"),
    ({"flor": 0.5}, "flor is not a knob: did you mean 'floor'?"),
]


@pytest.mark.parametrize(("knobs", "message"), CASES)
@pytest.mark.parametrize("as_node", [False, True])
def test_bad_settings(knobs, message, as_node):
    algorithm = {"asym_grpo": {"entropy_control": knobs}}
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        EntropyControlConfig.from_algorithm(OmegaConf.create(algorithm) if as_node else algorithm)
    assert PATH in str(raised.value)


@pytest.mark.parametrize("node", ["0.5", 3, [1]])
def test_not_a_mapping(node):
    with pytest.raises(ConfigError, match=re.escape(PATH)):
        EntropyControlConfig.from_algorithm({"asym_grpo": {"entropy_control": node}})


@pytest.mark.parametrize("algorithm", [None, {}, {"asym_grpo": None}, {"asym_grpo": {"entropy_control": None}}])
def test_off_is_none(algorithm):
    assert EntropyControlConfig.from_algorithm(algorithm) is None


def test_beside_the_estimators_own_knobs():
    algorithm = {"asym_grpo": {"preset": "maxrl", "entropy_control": {"floor": 0.4}}}
    assert AsymGRPOConfig.from_algorithm(algorithm).preset == "maxrl"
    assert EntropyControlConfig.from_algorithm(algorithm) == EntropyControlConfig(floor=0.4)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_has_defaults(way):
    config = EntropyControlConfig(way=way)
    assert config.own_gain == (WAYS[way].gain or 0)
    assert not config.falls


def test_only_a_ceiling():
    config = EntropyControlConfig(floor=None, ceiling=1.2)
    assert (config.last("floor"), config.last("ceiling")) == (None, 1.2)


def test_the_configuration_loads_without_torch():
    code = "import sys, recipe.asymgrpo.entropy_control; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_is_for_people():
    band = EntropyControlConfig(way="filter", floor=0.6, ceiling=0.7, final_floor=0.1, final_ceiling=0.2, unit="nats")
    assert band.summary == "filter, floor 0.6 to 0.1, ceiling 0.7 to 0.2 nats a token"
    assert EntropyControlConfig().summary == "successes, floor 0.5 of the first step's entropy"
