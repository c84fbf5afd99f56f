"""Knobs of the `entropy_modulated` loss: the only place where a knob and its default are written.

Apart from `config.py` because verl wants a subclass of its own dataclass here, and so apart from `policy_loss.py` too,
which verl's plugin loader must be able to import while `verl` itself is half imported.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from verl.workers.config import PolicyLossConfig

from recipe.asymgrpo.config import ConfigError, read

PATH = "actor_rollout_ref.actor.policy_loss"
KNOBS = ("informative_coef", "spurious_coef", "modulation_cap")


@dataclass
class EntropyModulatedLossConfig(PolicyLossConfig):
    """verl's `actor.policy_loss` with the knobs of `entropy_modulated`; the defaults are neutral (verl's `vanilla`).

    Select it with ``+asymgrpo=modulated``, or with this class as ``actor_rollout_ref.actor.policy_loss._target_``.

    Args:
        informative_coef: >= 0; credit for the surprising tokens of successes, in advantage units per nat.
        spurious_coef: >= 0; blame for the surprising tokens of failures, in advantage units per nat.
        modulation_cap: in [0, 1); the largest change of an advantage, as a share of it, so that no sign flips.

    Raises:
        ConfigError: a value has the wrong type or is out of range; the message names the full override path.
    """

    informative_coef: float = 0.0
    spurious_coef: float = 0.0
    modulation_cap: float = 0.5

    def __post_init__(self) -> None:
        parent = getattr(super(), "__post_init__", None)
        if parent is not None:
            parent()
        for knob, most, allowed in (
            ("informative_coef", math.inf, "a finite number >= 0"),
            ("spurious_coef", math.inf, "a finite number >= 0"),
            ("modulation_cap", 1, "a number >= 0 and < 1 (at 1 an advantage could lose its sign)"),
        ):
            value = getattr(self, knob)
            # bool is a number to Python, but `informative_coef=true` is a mistake; NaN fails the comparison.
            if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < most:
                raise ConfigError(f"{PATH}.{knob}={value!r} is not possible. Allowed: {allowed}.")

    @classmethod
    def of(cls, policy_loss: Any) -> EntropyModulatedLossConfig:
        """The knobs of a run; neutral ones where `actor.policy_loss` is verl's own class.

        Args:
            policy_loss: a dataclass of verl's, a mapping (as older versions pass), or None.
        """
        if isinstance(policy_loss, cls):
            return policy_loss
        given = {knob: read(policy_loss, knob) for knob in KNOBS}
        return cls(**{knob: value for knob, value in given.items() if value is not None})
