"""Rejects impossible knobs of the estimator and of the loss, and prompts without an answer, before any worker starts.

Knobs are validated when they are used, after models were loaded and the first batch was generated. verl's
launcher calls ``verl.utils.config.validate_config`` first; a wrapper around it checks ours as well. Where verl has
moved that function nothing is lost but the early moment: the same errors come later.
"""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path
from typing import Any

logger = logging.getLogger(f"verl.{__name__}")


def install() -> None:
    """Wrap ``verl.utils.config.validate_config``, once; `verl.trainer.main_ppo` imports it after the plugins."""
    import verl.utils.config as verl_config

    original = getattr(verl_config, "validate_config", None)
    if original is None or hasattr(original, "checks_asym_grpo"):
        return

    @functools.wraps(original)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> Any:
        check(config)
        check_prompts(config)
        return original(config, *args, **kwargs)

    validate_config.checks_asym_grpo = True  # type: ignore[attr-defined]
    verl_config.validate_config = validate_config


def check(config: Any) -> None:
    """Validate our part of a whole verl configuration, where it selects our estimator or our loss.

    Raises:
        recipe.asymgrpo.config.ConfigError: see :class:`recipe.asymgrpo.config.AsymGRPOConfig`,
            :class:`recipe.asymgrpo.loss_config.EntropyModulatedLossConfig` and
            :class:`recipe.asymgrpo.entropy_control.EntropyControlConfig`.
    """
    from recipe.asymgrpo.entropy_control import EntropyControlConfig

    worker = config.get("actor_rollout_ref") or {}
    control = EntropyControlConfig.from_algorithm(config.algorithm)  # what two knobs contradict comes before numbers
    if config.algorithm.adv_estimator == "asym_grpo":
        check_rollouts(config)
    else:
        warn_of_idle_knobs(config.algorithm, beside_control=control is not None)
    if control is not None:
        check_entropy_control(control, config)
    if config.algorithm.adv_estimator == "asym_grpo" or control is not None:
        check_trainer(config)
    policy_loss = (worker.get("actor") or {}).get("policy_loss") or {}
    if policy_loss.get("loss_mode") == "entropy_modulated":
        check_policy_loss(policy_loss)
        check_bypass(config)


def warn_of_idle_knobs(algorithm: Any, beside_control: bool) -> None:
    """Say which settings of our estimator do nothing, because another one was chosen: often a word that was forgotten.

    Args:
        algorithm: verl's `config.algorithm`, with another `adv_estimator`.
        beside_control: the scripts' METHOD=grpo,entropy_floor has a preset, and is for any estimator.
    """
    from dataclasses import fields

    from recipe.asymgrpo.config import PATH, AsymGRPOConfig, read

    given = algorithm.get("asym_grpo")
    idle = [
        f"{PATH}.{knob.name}={value}"
        for knob in fields(AsymGRPOConfig)
        if (value := read(given, knob.name)) not in (None, knob.default)
        and not (beside_control and knob.name == "preset")
    ]
    if idle:
        logger.warning(
            "verl-asymgrpo: %s: nothing asks for it, for algorithm.adv_estimator=%s is another estimator. Set "
            "algorithm.adv_estimator=asym_grpo, or leave it out.",
            *(", ".join(idle), algorithm.adv_estimator),
        )


def check_rollouts(config: Any) -> None:
    """Refuse groups that are too small for the preset to learn from."""
    from recipe.asymgrpo.config import PATH, AsymGRPOConfig, ConfigError

    knobs = AsymGRPOConfig.from_algorithm(config.algorithm)
    pass_k = knobs.curve_knobs.get("pass_k", 0)
    rollouts = ((config.get("actor_rollout_ref") or {}).get("rollout") or {}).get("n")
    if rollouts is not None and pass_k > rollouts:
        raise ConfigError(
            f"{PATH}.pass_k={pass_k} needs groups of at least {pass_k} responses, but "
            f"actor_rollout_ref.rollout.n={rollouts}. Raise n or lower pass_k."
        )
    if rollouts is not None and rollouts < 2 and not constant(knobs):
        raise ConfigError(
            f"actor_rollout_ref.rollout.n={rollouts}: preset {knobs.preset} compares the responses of a prompt, so "
            "nothing would be learned. Set actor_rollout_ref.rollout.n to 2 or more (the paper: 8)."
        )


def constant(knobs: Any) -> bool:
    """Whether a success and a failure get the same advantages whatever their group's accuracy: then one response to a
    prompt is enough."""
    import torch

    from recipe.asymgrpo.curves import curves

    f, g = curves(knobs, torch.arange(9), torch.full((9,), 8))
    return bool((f[1:] == f[1]).all() and (g[:-1] == g[0]).all())


def check_trainer(config: Any) -> None:
    """Refuse the trainers of verl-recipe that would not ask our estimator (docs/trainers.md)."""
    from recipe.asymgrpo.config import ConfigError
    from recipe.asymgrpo.entropy_control import PATH

    name = config.algorithm.adv_estimator
    ours = name == "asym_grpo"
    setting = f"algorithm.adv_estimator={name}" if ours else PATH
    instead = "algorithm.adv_estimator=rloo" if ours else "leave the control out"
    if "reward_dpo_coef" in config.algorithm:  # no other trainer's configuration has it
        raise ConfigError(
            f"{setting}: PRIME's trainer has an advantage of its own, RLOO over process rewards, and looks no other "
            f"up. Use verl's trainer, or {instead}."
        )
    if ((config.get("trainer") or {}).get("spo") or {}).get("enable"):
        raise ConfigError(
            f"{setting}: with trainer.spo.enable=True the trainer computes SPO's own advantages "
            "of single rollouts and asks no estimator. Set trainer.spo.enable=False."
        )


def check_entropy_control(control: Any, config: Any) -> None:
    """Refuse a control beside a loss that moves the entropy by fixed coefficients, and levels that no model has."""
    import math

    from recipe.asymgrpo.config import ConfigError
    from recipe.asymgrpo.entropy_control import PATH
    from recipe.asymgrpo.loss_config import PATH as LOSS
    from verl_ext.models import vocabulary

    worker = config.get("actor_rollout_ref") or {}
    loss = (worker.get("actor") or {}).get("policy_loss") or {}
    for knob in ("informative_coef", "spurious_coef"):
        if loss.get("loss_mode") == "entropy_modulated" and loss.get(knob):
            raise ConfigError(
                f"{PATH}.way={control.way} sets the modulation anew in every step, and {LOSS}.{knob}={loss[knob]} "
                f"would fix it. Set {LOSS}.{knob}=0, or leave the control out."
            )
    model = str((worker.get("model") or {}).get("path"))
    tokens = vocabulary(model) if control.unit == "nats" else None
    for knob in ("floor", "ceiling"):
        level = getattr(control, knob)
        if tokens and level is not None and level > math.log(tokens):
            raise ConfigError(
                f"{PATH}.{knob}={level:g} nats is more than the entropy of any policy over the {tokens} tokens of "
                f"{model}. Allowed: up to {math.log(tokens):.4g}."
            )


def check_bypass(config: Any) -> None:
    """Refuse our loss where the trainer would put verl's own in its place.

    In bypass mode V1 calls the loss that was chosen; the legacy trainer and its descendants write
    ``loss_mode=bypass_mode`` over it (`verl.trainer.ppo.rollout_corr_helper.apply_bypass_mode`).
    """
    from recipe.asymgrpo.config import ConfigError

    bypass = (config.algorithm.get("rollout_correction") or {}).get("bypass_mode")
    v1 = (config.get("trainer") or {}).get("use_v1") and "verl.trainer.main_ppo_v0" not in sys.modules
    separate = "rollout" in config  # one_step_off_policy's and fully_async_policy's
    if bypass and (separate or not v1):
        raise ConfigError(
            "actor_rollout_ref.actor.policy_loss.loss_mode=entropy_modulated: with "
            "algorithm.rollout_correction.bypass_mode=True this trainer asks for verl's own loss instead, and which of "
            "the two its workers take is not ours to say. Set "
            "bypass_mode=False, or take verl's V1 trainer (trainer.use_v1=True)."
        )


def check_prompts(config: Any) -> None:
    """Look at the prompts of a run that uses our reward function, which cannot do without an answer.

    Files that are not here or not parquet (a hub's, HDFS) are left to verl.

    Raises:
        ValueError: see :func:`recipe.asymgrpo.reward.check_file`.
    """
    sections = [config.get("reward") or {}, config]  # before verl 0.7, at the top
    paths = [(section.get("custom_reward_function") or {}).get("path") for section in sections]
    if "pkg://recipe.asymgrpo.reward" not in paths:
        return
    from recipe.asymgrpo.reward import check_file

    for key in ("train_files", "val_files"):
        files = (config.get("data") or {}).get(key) or []
        for name in [files] if isinstance(files, str) else files:
            path = Path(str(name)).expanduser()
            if path.suffix == ".parquet" and path.is_file():
                check_file(path)


def check_policy_loss(policy_loss: Any) -> None:
    """Validate `actor.policy_loss` of a run with `entropy_modulated`; Hydra's own errors would not name a remedy."""
    from recipe.asymgrpo.config import ConfigError, section
    from recipe.asymgrpo.loss_config import KNOBS, PATH, EntropyModulatedLossConfig

    found = section(policy_loss, PATH, EntropyModulatedLossConfig, "informative_coef=0.1", beside=("_target_",))
    target = f"{EntropyModulatedLossConfig.__module__}.{EntropyModulatedLossConfig.__qualname__}"
    given = {knob: found[knob] for knob in KNOBS if knob in found}
    if given and policy_loss.get("_target_") != target:
        raise ConfigError(
            f"{PATH}.{min(given)} needs verl to read this section with our class. "
            f"Add +asymgrpo=modulated or {PATH}._target_={target}."
        )
    EntropyModulatedLossConfig(**given)
