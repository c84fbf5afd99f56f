"""Finds the configuration of a training whose trainer does not hand it to the estimator.

Some trainers outside of verl (verl-recipe's `entropy`, `atropos`, `sppo`, `async_flow`) call verl's
``compute_advantage`` without ``config=``, and the estimator then gets None. The trainer that called it has one.
"""

from __future__ import annotations

from typing import Any

from verl_ext.callers import attribute, frames, objects


def of_caller() -> Any:
    """`config.algorithm` of the training that is calling the estimator, or None where no trainer is (a notebook).

    Looked for in the calling functions, from the inside out: an object with a `config` that has an `algorithm`
    section, as every trainer of verl's is, or such a configuration itself.

    Raises:
        recipe.asymgrpo.config.ConfigError: verl is calling, and nothing above it has a configuration.
    """
    from recipe.asymgrpo.config import ConfigError

    in_verl = False
    for frame in frames():
        in_verl |= str(frame.f_globals.get("__name__", "")).split(".")[0] == "verl"
        for holder in objects(frame):
            for config in (holder, attribute(holder, "config")):
                algorithm = _section(config, "algorithm")
                if algorithm is not None and _section(algorithm, "adv_estimator") == "asym_grpo":
                    return algorithm
    if in_verl:
        raise ConfigError(
            "algorithm.adv_estimator=asym_grpo: this trainer calls compute_advantage without its configuration, so the "
            "settings below algorithm.asym_grpo cannot be read. Let it pass config=self.config.algorithm."
        )
    return None


def _section(config: Any, key: str) -> Any:
    """`config.key` of an omegaconf node, a mapping or a dataclass; None where there is none."""
    try:
        if type(config).__module__.split(".")[0] == "omegaconf" or isinstance(config, dict):
            return config.get(key)
        return getattr(config, key, None) if hasattr(config, "__dataclass_fields__") else None
    except Exception:  # another's object may do anything when it is asked
        return None
