"""The module that verl loads (entry point group `verl.plugins`, or VERL_USE_EXTERNAL_MODULES=verl_ext.plugin).

It registers when imported, in every process that imports verl, while `verl` itself is half imported. So it imports
nothing heavy of its own: `verl.trainer.ppo.core_algos`, which holds the tables, has torch and numpy already.

A part that fails does not stop the others. Each failure is logged as a warning, because verl mentions an entry
point's exception at DEBUG only; then the first one is raised: `import verl` survives it where the entry point loaded
us, and stops where the user named this module in VERL_USE_EXTERNAL_MODULES, as that variable promises.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys

logger = logging.getLogger(f"verl.{__name__}")

OLDEST = (0, 6)
"""The first verl whose trainer accepts an estimator that it does not know itself."""


def register_estimator() -> None:
    """`algorithm.adv_estimator=asym_grpo`."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    from recipe.asymgrpo import advantage
    from verl_ext import configuration, entropy_control, verdicts
    from verl_ext.registry import register

    advantage.find_config = configuration.of_caller
    advantage.find_entropy = entropy_control.of_caller
    advantage.find_verdicts = verdicts.of_caller
    register(
        ADV_ESTIMATOR_REGISTRY, "asym_grpo", advantage.compute_asym_grpo_advantage, setting="algorithm.adv_estimator"
    )


def register_policy_loss() -> None:
    """`actor_rollout_ref.actor.policy_loss.loss_mode=entropy_modulated`."""
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    from recipe.asymgrpo.policy_loss import compute_policy_loss_entropy_modulated
    from verl_ext.registry import register

    setting = "actor_rollout_ref.actor.policy_loss.loss_mode"
    register(POLICY_LOSS_REGISTRY, "entropy_modulated", compute_policy_loss_entropy_modulated, setting=setting)


def register_driver_metrics() -> None:
    """The metrics `asymgrpo/...` in the trainer's log."""
    from verl_ext import driver_metrics

    driver_metrics.install()


def register_early_check() -> None:
    """The check of this package's settings in verl's launcher."""
    from verl_ext import early_check

    early_check.install()


def register_platform() -> None:
    """verl's platform "cpu"."""
    from verl_ext.cpu import platform

    platform.register()


def check_verl() -> None:
    """Raises RuntimeError, after a warning, where this verl is older than `OLDEST`."""
    import verl

    version = getattr(verl, "__version__", "")
    if version and tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST:
        message = f"verl-asymgrpo: verl {version} is not supported; install verl {'.'.join(map(str, OLDEST))} or newer"
        logger.warning(message)
        raise RuntimeError(message)


def check_package() -> None:
    """Raises ModuleNotFoundError, after a warning, where another package `recipe` hides ours: registered all the same,
    we would end runs that do not use us."""
    if importlib.util.find_spec("recipe.asymgrpo") is None:
        hiding = getattr(sys.modules.get("recipe"), "__file__", None)
        message = (
            f"verl-asymgrpo: {hiding} hides the package recipe.asymgrpo, so nothing of it is available here. "
            "Start from another folder, or remove that file: a folder recipe without it is no obstacle."
        )
        logger.warning(message)
        raise ModuleNotFoundError(message, name="recipe.asymgrpo")


def register_all() -> None:
    """Registers everything this package offers.

    Raises:
        RuntimeError: this verl is too old.
        Exception: the first failure, after all of them were logged.
    """
    check_verl()
    check_package()
    failures = []
    for part in (
        register_estimator,
        register_policy_loss,
        register_driver_metrics,
        register_early_check,
        register_platform,
    ):
        try:
            part()
        except Exception as error:
            logger.warning(
                "verl-asymgrpo: %s failed in this process, so %s is not available: %s: %s",
                *(part.__name__, (part.__doc__ or "").rstrip("."), type(error).__name__, error),
            )
            failures.append(error)
    if failures:
        raise failures[0]


register_all()
