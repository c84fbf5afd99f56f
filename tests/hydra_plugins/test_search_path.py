"""`+asymgrpo=NAME` on top of verl's own configuration."""

import functools
import subprocess
import sys
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from recipe.asymgrpo.config import AsymGRPOConfig, ConfigError
from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.entropy_control import EntropyControlConfig
from verl_ext import early_check

ROOT = Path(__file__).resolve().parents[2]
VERL = Path(find_spec("verl").origin).parent / "trainer" / "config"
METHODS = {"paper", "clip_higher", "entropy_bonus", "modulated"}  # more than a preset of the estimator
OPTIONS = sorted(METHODS | set(PRESETS))
every_option = pytest.mark.parametrize("option", OPTIONS)


@functools.cache
def composed(*overrides, config_name="ppo_trainer"):
    with initialize_config_dir(str(VERL), version_base=None):
        return compose(config_name, list(overrides))


def leaves(config):
    """{path: value} of a whole configuration, interpolations as they stand."""

    def walk(node, path):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}" if path else key)
        else:
            yield path, node

    return dict(walk(OmegaConf.to_container(config), ""))


def changes(option):
    """What an option changes in verl's configuration, without the estimator's section."""
    before, after = leaves(composed()), leaves(composed(f"+asymgrpo={option}"))
    assert before.keys() <= after.keys()
    new = {path: value for path, value in after.items() if path not in before or before[path] != value}
    return {path: value for path, value in new.items() if not path.startswith("algorithm.asym_grpo.")}


def test_every_preset_has_a_file_and_every_file_is_known():
    folder = ROOT / "recipe" / "asymgrpo" / "conf" / "asymgrpo"
    assert sorted(file.stem for file in folder.iterdir()) == sorted([*OPTIONS, "entropy_floor"])


@every_option
def test_an_option_gives_its_preset_with_the_presets_own_knobs(option):
    algorithm = composed(f"+asymgrpo={option}").algorithm
    preset = "asymgrpo" if option in METHODS else option
    assert algorithm.adv_estimator == "asym_grpo"
    assert AsymGRPOConfig.from_algorithm(algorithm) == AsymGRPOConfig(preset=preset)
    early_check.check(composed(f"+asymgrpo={option}", "actor_rollout_ref.rollout.n=8"))


def test_all_knobs_are_there_with_the_defaults_of_the_dataclass():
    """The one repetition of config.py: what is not in the composed configuration would need a `+`."""
    assert OmegaConf.to_container(composed("+asymgrpo=paper").algorithm.asym_grpo) == asdict(AsymGRPOConfig())


CONTROL = {
    f"algorithm.asym_grpo.entropy_control.{knob}": value for knob, value in asdict(EntropyControlConfig()).items()
}


@every_option
def test_entropy_floor_stands_behind_any_other_word(option):
    """In a list, and in either order; but where the preset itself answers to the entropy."""
    if option == "fade_dynamic":
        with pytest.raises(ConfigError, match="would both control the entropy"):
            early_check.check(composed(f"+asymgrpo=[{option},entropy_floor]"))
        return
    in_order = f"[{option},entropy_floor]"
    for words in (in_order, f"[entropy_floor,{option}]") if option in ("modulated", "maxrl") else (in_order,):
        before, after = leaves(composed(f"+asymgrpo={option}")), leaves(composed(f"+asymgrpo={words}"))
        assert {path: value for path, value in after.items() if before.get(path, "") != value} == CONTROL
        algorithm = composed(f"+asymgrpo={words}").algorithm
        assert EntropyControlConfig.from_algorithm(algorithm) == EntropyControlConfig()
        assert AsymGRPOConfig.from_algorithm(algorithm) == AsymGRPOConfig.from_algorithm(
            composed(f"+asymgrpo={option}").algorithm
        )


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gae"])
def test_entropy_floor_alone_leaves_verls_estimator(estimator):
    config = composed(
        f"algorithm.adv_estimator={estimator}",
        "+asymgrpo=entropy_floor",
        "algorithm.asym_grpo.entropy_control.floor=0.4",
    )
    before = leaves(composed(f"algorithm.adv_estimator={estimator}"))
    changed = {path: value for path, value in leaves(config).items() if before.get(path, "") != value}
    assert changed == CONTROL | {"algorithm.asym_grpo.entropy_control.floor": 0.4}
    early_check.check(config)


PAPER = {"algorithm.adv_estimator": "asym_grpo", "actor_rollout_ref.rollout.n": 8}


def test_paper_is_verls_configuration_with_the_papers_estimator():
    assert composed("+asymgrpo=paper").actor_rollout_ref.actor.policy_loss.loss_mode == "vanilla"
    assert changes("paper") == PAPER


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_the_estimator_only(preset):
    assert changes(preset) == {"algorithm.adv_estimator": "asym_grpo"}


@pytest.mark.parametrize(
    ("option", "actor"),
    [
        ("clip_higher", {"clip_ratio_high": 0.28}),  # clip_ratio_low is 0.2 in verl already
        ("entropy_bonus", {"entropy_coeff": 0.001}),
        (
            "modulated",
            {
                "policy_loss._target_": "recipe.asymgrpo.loss_config.EntropyModulatedLossConfig",
                "policy_loss.loss_mode": "entropy_modulated",
                "policy_loss.informative_coef": 0.1,
                "policy_loss.spurious_coef": 0.0,
                "policy_loss.modulation_cap": 0.5,
            },
        ),
    ],
)
def test_a_method_is_the_paper_and_these_settings(option, actor):
    expected = {f"actor_rollout_ref.actor.{knob}": value for knob, value in actor.items()}
    assert changes(option) == PAPER | expected
    assert composed("+asymgrpo=clip_higher").actor_rollout_ref.actor.clip_ratio_low == 0.2


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_own_knobs_need_no_plus(preset):
    own = {**PRESETS[preset].knobs, "success_threshold": 0.2, "max_abs_advantage": 5.0}
    overrides = [f"algorithm.asym_grpo.{knob}={value}" for knob, value in own.items()]
    read = AsymGRPOConfig.from_algorithm(composed(f"+asymgrpo={preset}", *overrides).algorithm)
    assert {knob: getattr(read, knob) for knob in own} == own


@pytest.mark.parametrize("plus", ["", "+"])
def test_the_command_line_wins(plus):
    """Before or after the option, and with the `+` that is needed without it."""
    overrides = [f"{plus}algorithm.asym_grpo.beta_pos=0.7", "actor_rollout_ref.actor.clip_ratio_high=0.3"]
    for order in ([*overrides, "+asymgrpo=clip_higher"], ["+asymgrpo=clip_higher", *overrides]):
        config = composed(*order)
        knobs = AsymGRPOConfig.from_algorithm(config.algorithm)
        assert knobs.curve_knobs == {"beta_pos": 0.7, "beta_neg": 0.4}
        assert config.actor_rollout_ref.actor.clip_ratio_high == 0.3


def test_the_modulated_losss_knobs_need_no_plus():
    config = composed("+asymgrpo=modulated", "actor_rollout_ref.actor.policy_loss.spurious_coef=0.2")
    assert config.actor_rollout_ref.actor.policy_loss.spurious_coef == 0.2


def test_another_presets_knob_is_our_error_not_hydras():
    """Hydra's "append with +" would be wrong advice."""
    stranger = next(f.name for f in fields(AsymGRPOConfig) if f.name in PRESETS["f_grpo"].knobs)
    config = composed("+asymgrpo=paper", f"algorithm.asym_grpo.{stranger}=0.7")
    with pytest.raises(ConfigError, match=stranger):
        AsymGRPOConfig.from_algorithm(config.algorithm)


def test_an_unknown_option_is_answered_with_the_known_ones():
    with pytest.raises(Exception, match=r"(?s)asymgrpo/papre.*paper") as caught:
        composed("+asymgrpo=papre")
    assert all(option in str(caught.value) for option in OPTIONS)
    assert "asymgrpo_knobs" not in str(caught.value)


def test_with_verls_other_trainer_configuration():
    config = composed("+asymgrpo=clip_higher", config_name="ppo_megatron_trainer")
    assert config.actor_rollout_ref.actor.clip_ratio_high == 0.28


def test_nothing_changes_without_the_option():
    assert "asym_grpo" not in composed().algorithm
    with pytest.raises(ConfigCompositionException, match="beta_pos"):
        composed("algorithm.asym_grpo.beta_pos=0.7")


def test_the_place_is_appended_to_the_search_path():
    """Behind all others, so that no file of ours hides one of theirs."""
    plugins = [cls for cls in Plugins.instance().discover(SearchPathPlugin) if cls.__module__.endswith("verl_asymgrpo")]
    assert len(plugins) == 1

    class Recorder(ConfigSearchPath):
        appended: list = []  # noqa: RUF012

        def append(self, provider, path, anchor=None):
            assert anchor is None
            self.appended.append(path)

        def get_path(self): ...
        def prepend(self, provider, path, anchor=None): ...

    plugins[0]().manipulate_search_path(Recorder())
    assert Recorder.appended == ["pkg://recipe.asymgrpo.conf"]


def test_verls_own_command_in_any_directory(tmp_path):
    """The installed package (here usually an editable one), through `python -m verl.trainer.main_ppo`."""
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--cfg", "job", "--package", "algorithm.asym_grpo"]
    done = subprocess.run(
        [
            *command,
            "+asymgrpo=paper",
            "algorithm.asym_grpo.beta_pos=0.7",
            "hydra.searchpath=[pkg://verl.trainer.config]",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).beta_pos == 0.7
    assert "is not available" not in done.stderr  # Hydra's warning about a place that it cannot use
