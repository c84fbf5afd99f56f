"""A bad knob ends a run in verl's launcher, not after the first batch."""

import sys
from contextlib import nullcontext

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import verl.utils.config
from omegaconf import OmegaConf

from recipe.asymgrpo.config import ConfigError
from verl_ext import early_check


@pytest.fixture(autouse=True)
def launched_by_v1(monkeypatch):
    """Another test may have imported the legacy launcher, by which the check tells the trainers apart."""
    monkeypatch.delitem(sys.modules, "verl.trainer.main_ppo_v0", raising=False)


def config(**algorithm):
    return OmegaConf.create({"algorithm": {"adv_estimator": "asym_grpo", **algorithm}})


@pytest.fixture
def launcher(monkeypatch):
    """verl's function replaced by one that notes its calls, then wrapped."""
    calls = []

    def validate_config(config, use_reference_policy, use_critic):
        calls.append((use_reference_policy, use_critic))
        return "verl's answer"

    monkeypatch.setattr(verl.utils.config, "validate_config", validate_config)
    early_check.install()
    return calls


def test_verls_own_validation_still_runs(launcher):
    good = config(asym_grpo={"beta_pos": 0.7})
    assert (
        verl.utils.config.validate_config(config=good, use_reference_policy=True, use_critic=False) == "verl's answer"
    )
    assert launcher == [(True, False)]


def test_bad_knob_is_rejected_before(launcher):
    with pytest.raises(ConfigError, match=r"algorithm\.asym_grpo\.beta_pso"):
        verl.utils.config.validate_config(config(asym_grpo={"beta_pso": 1}), False, use_critic=False)
    assert launcher == []


def test_other_estimators_are_not_our_business(launcher):
    other = config(adv_estimator="grpo", asym_grpo={"beta_pso": 1})
    verl.utils.config.validate_config(other, False, use_critic=False)


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"beta_pos": 0.7, "pass_k": None}, "algorithm.asym_grpo.beta_pos=0.7: "),
        ({"preset": "maxrl", "beta_neg": 0}, "algorithm.asym_grpo.preset=maxrl, algorithm.asym_grpo.beta_neg=0: "),
        ({"preset": "asymgrpo", "success_threshold": 0.5}, None),  # the defaults, as any of our words gives them
        ({"preset": "grpo", "entropy_control": {"floor": 0.5}}, None),  # acts on any estimator
        ({}, None),
        (None, None),
    ],
)
def test_knobs_that_nothing_asks_for_are_named(given, idle, caplog):
    early_check.check(config(adv_estimator="rloo", asym_grpo=given))
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == (idle is not None)
    if idle:
        assert found[0].startswith(f"verl-asymgrpo: {idle}")
        assert "algorithm.adv_estimator=rloo" in found[0]
    caplog.clear()
    early_check.check(config(asym_grpo=given))  # our estimator
    assert not caplog.records


def test_install_twice_wraps_once(launcher):
    wrapped = verl.utils.config.validate_config
    early_check.install()
    assert verl.utils.config.validate_config is wrapped


def test_plugin_has_installed_it():
    assert hasattr(verl.utils.config.validate_config, "checks_asym_grpo")


def test_harmless_where_verl_has_no_such_function(monkeypatch):
    monkeypatch.delattr(verl.utils.config, "validate_config")
    early_check.install()


def with_loss(**policy_loss):
    base = config()
    base.actor_rollout_ref = {"actor": {"policy_loss": {"loss_mode": "entropy_modulated", **policy_loss}}}
    return base


OURS = "recipe.asymgrpo.loss_config.EntropyModulatedLossConfig"


@pytest.mark.parametrize(
    ("policy_loss", "message"),
    [
        ({"_target_": OURS, "informative_coef": -1}, r"policy_loss\.informative_coef=-1 .*Allowed"),
        ({"_target_": OURS, "informativ_coef": 1}, r"policy_loss\.informativ_coef.*did you mean 'informative_coef'"),
        ({"spurious_coef": 0.1}, r"spurious_coef needs .*\+asymgrpo=modulated"),
    ],
)
def test_bad_knob_of_the_loss(policy_loss, message):
    with pytest.raises(ConfigError, match=message):
        early_check.check(with_loss(**policy_loss))


def test_good_knobs_of_the_loss():
    early_check.check(with_loss())
    early_check.check(with_loss(_target_=OURS, informative_coef=0.3, spurious_coef=0.1, modulation_cap=0.5))


def test_pass_k_beyond_the_group():
    many = config(asym_grpo={"preset": "pass_at_k"})
    many.actor_rollout_ref = {"rollout": {"n": 4}}
    early_check.check(many)
    many.actor_rollout_ref.rollout.n = 3
    with pytest.raises(ConfigError, match=r"pass_k=4 .*rollout\.n=3"):
        early_check.check(many)


@pytest.mark.parametrize(("preset", "refused"), [("asymgrpo", True), ("grpo", True), ("reinforce", False)])
def test_one_response_where_responses_are_compared(preset, refused):
    one = config(asym_grpo={"preset": preset})
    one.actor_rollout_ref = {"rollout": {"n": 1}}
    with pytest.raises(ConfigError, match=r"rollout\.n=1: .*Set .* 2 or more") if refused else nullcontext():
        early_check.check(one)
    one.actor_rollout_ref.rollout.n = 2
    early_check.check(one)


@pytest.mark.parametrize("at_the_top", [False, True])
def test_prompts_without_an_answer_end_a_run_with_our_reward(tmp_path, launcher, at_the_top):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"data_source": ["math"], "reward_model": [{"ground_truth": None}]}), path)
    function = {"custom_reward_function": {"path": "pkg://recipe.asymgrpo.reward"}}
    ours = config()
    ours.update(function if at_the_top else {"reward": function})
    ours.data = {"train_files": [str(path)], "val_files": str(tmp_path / "absent.parquet")}
    with pytest.raises(ValueError, match=r"row 0: .*without an answer"):
        verl.utils.config.validate_config(ours, False, use_critic=False)
    assert launcher == []
    other = config()
    other.data = ours.data
    verl.utils.config.validate_config(other, False, use_critic=False)


@pytest.mark.parametrize(
    ("algorithm", "rest", "words"),
    [
        ({"reward_dpo_coef": 5.0}, {}, "PRIME's trainer has an advantage of its own"),
        ({}, {"trainer": {"spo": {"enable": True}}}, r"trainer\.spo\.enable=True"),
        ({}, {"trainer": {"spo": {"enable": False}}}, None),
    ],
)
def test_trainers_that_would_not_ask_the_estimator_are_refused(algorithm, rest, words):
    whole = OmegaConf.merge(config(**algorithm), rest)
    if words is None:
        early_check.check(whole)
        return
    with pytest.raises(ConfigError, match=words):
        early_check.check(whole)
    whole.algorithm.adv_estimator = "rloo"
    early_check.check(whole)


@pytest.mark.parametrize(
    ("trainer", "rest", "refused"),
    [
        ({"use_v1": True}, {}, False),
        ({"use_v1": False}, {}, True),
        ({}, {}, True),  # before verl 0.9
        ({"use_v1": True}, {"rollout": {"nnodes": 1}}, True),  # one_step_off_policy and fully_async_policy
    ],
)
@pytest.mark.parametrize("loss", ["entropy_modulated", "vanilla"])
def test_a_loss_that_bypass_mode_would_replace_is_refused(trainer, rest, refused, loss):
    actor = {"actor": {"policy_loss": {"loss_mode": loss}}}
    whole = OmegaConf.create(
        {
            "algorithm": {"adv_estimator": "asym_grpo", "rollout_correction": {"bypass_mode": True}},
            "actor_rollout_ref": actor,
            "trainer": trainer,
            **rest,
        }
    )
    if refused and loss == "entropy_modulated":
        with pytest.raises(ConfigError, match="bypass_mode=True this trainer asks for verl's own loss"):
            early_check.check(whole)
        whole.algorithm.rollout_correction.bypass_mode = False
    early_check.check(whole)


@pytest.mark.parametrize(
    ("base", "overrides"),
    [
        ("ppo_trainer", ["actor_rollout_ref.rollout.name=sglang"]),
        ("ppo_trainer", ["actor_rollout_ref.model.lora_rank=32", "actor_rollout_ref.model.lora_alpha=64"]),
        ("ppo_trainer", ["algorithm.filter_groups.enable=True"]),
        ("ppo_trainer", ["algorithm.rollout_correction.rollout_is=token"]),
        ("ppo_trainer", ["algorithm.rollout_correction.bypass_mode=True"]),
        ("ppo_megatron_trainer", []),
    ],
)
@pytest.mark.parametrize("word", ["paper", "modulated"])
def test_options_compose_with_every_word(base, overrides, word):
    """The lines of docs/trainers.md that begin with "works" and need another engine than this machine has."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        plain = compose(base)
        for key in (override.partition("=")[0] for override in overrides):
            section, _, name = key.rpartition(".")
            if name not in set(OmegaConf.select(plain, section) or ()):  # without `set` what is "???" is not in it
                pytest.skip(f"this verl has no {key}")
        whole = compose(base, overrides=[f"+asymgrpo={word}", *overrides])
    bypassed = OmegaConf.select(whole, "algorithm.rollout_correction.bypass_mode", default=False)
    if word == "modulated" and bypassed and not OmegaConf.select(plain, "trainer.use_v1", default=False):
        with pytest.raises(ConfigError, match="bypass_mode=True this trainer asks for verl's own loss"):
            early_check.check(whole)  # before verl 0.9
        return
    early_check.check(whole)
    assert whole.algorithm.adv_estimator == "asym_grpo"
    assert whole.actor_rollout_ref.actor.policy_loss.loss_mode == (
        "vanilla" if word == "paper" else "entropy_modulated"
    )
