"""Rejects an impossible `algorithm.asym_grpo` before any worker starts.

The estimator validates its knobs when it is called, after models were loaded and the first batch was generated. verl's
launcher calls ``verl.utils.config.validate_config`` first; a wrapper around it validates ours as well. Where verl has
moved that function nothing is lost but the early moment: the estimator still raises the same error.
"""

from __future__ import annotations

import functools
from typing import Any


def install() -> None:
    """Wrap ``verl.utils.config.validate_config``, once; `verl.trainer.main_ppo` imports it after the plugins."""
    import verl.utils.config as verl_config

    original = getattr(verl_config, "validate_config", None)
    if original is None or hasattr(original, "checks_asym_grpo"):
        return

    @functools.wraps(original)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> Any:
        check(config)
        return original(config, *args, **kwargs)

    validate_config.checks_asym_grpo = True  # type: ignore[attr-defined]
    verl_config.validate_config = validate_config


def check(config: Any) -> None:
    """Validate the knobs of a whole verl configuration whose estimator is ours.

    Raises:
        recipe.asymgrpo.config.ConfigError: see :class:`recipe.asymgrpo.config.AsymGRPOConfig`.
    """
    from recipe.asymgrpo.config import AsymGRPOConfig

    algorithm = config.algorithm
    if algorithm.adv_estimator == "asym_grpo":
        AsymGRPOConfig.from_algorithm(algorithm)
