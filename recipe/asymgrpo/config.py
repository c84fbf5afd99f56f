"""Knobs of the `asym_grpo` estimator: the only place where a knob and its default are written.

Standard library only, so that a launcher can validate a configuration without importing torch.
"""

from __future__ import annotations

import difflib
import math
import numbers
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from recipe.asymgrpo.curves import PRESETS

PATH = "algorithm.asym_grpo"


class ConfigError(ValueError):
    """A knob is unknown or has an impossible value; the message names the full override path."""


@dataclass(frozen=True)
class AsymGRPOConfig:
    """What stands below `algorithm.asym_grpo`. Validated when made, then immutable.

    Args:
        preset: name of a pair of curves (`recipe.asymgrpo.curves.PRESETS`).
        beta_pos: exponent of the curve for successes; None takes the preset's.
        beta_neg: exponent of the curve for failures; None takes the preset's.
        success_threshold: a response is a success when its score is greater than this.
        max_abs_advantage: bound on |A|; None for no bound.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """

    preset: str = "asymgrpo"
    beta_pos: float | None = None
    beta_neg: float | None = None
    success_threshold: float = 0.5
    max_abs_advantage: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or self.preset not in PRESETS:
            raise ConfigError(
                f"{PATH}.preset={self.preset!r} is not a preset{_nearest(self.preset, PRESETS)}. "
                f"Allowed: {', '.join(PRESETS)}."
            )
        self._check_number("success_threshold", "any finite number")
        for knob in ("beta_pos", "beta_neg"):
            self._check_number(knob, "any finite number, or null for the preset's own", optional=True)
        self._check_number("max_abs_advantage", "a finite number > 0, or null for no bound", optional=True)
        if self.max_abs_advantage is not None and self.max_abs_advantage <= 0:
            raise ConfigError(
                f"{PATH}.max_abs_advantage={self.max_abs_advantage!r} would erase or flip every advantage. "
                "Allowed: a finite number > 0, or null for no bound."
            )

    def _check_number(self, knob: str, allowed: str, *, optional: bool = False) -> None:
        value = getattr(self, knob)
        if value is None and optional:
            return
        # bool is a number to Python, but `beta_pos=true` is a mistake; "0.9" is a quoting mistake.
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ConfigError(f"{PATH}.{knob}={value!r} is a {type(value).__name__}. Allowed: {allowed}.")
        try:
            number = float(value)
        except OverflowError:  # an int beyond every float
            number = math.inf
        if not math.isfinite(number):
            raise ConfigError(f"{PATH}.{knob}={value!r} is not finite. Allowed: {allowed}.")
        object.__setattr__(self, knob, number)

    @property
    def curve_knobs(self) -> dict[str, float]:
        """The chosen preset's own knobs, each overridden by the explicit value where one is given."""
        own = PRESETS[self.preset].knobs
        return {knob: own[knob] if getattr(self, knob) is None else getattr(self, knob) for knob in own}

    @classmethod
    def from_algorithm(cls, config: Any = None) -> AsymGRPOConfig:
        """Reads `asym_grpo` below verl's `config.algorithm`; nothing there gives the defaults.

        Args:
            config: omegaconf `DictConfig`, mapping, verl's `AlgoConfig`, or None.

        Raises:
            ConfigError: `asym_grpo` is not a mapping, has an unknown key, or a value is impossible.
        """
        node = read(config, "asym_grpo")
        if node is None:
            return cls()
        if isinstance(node, cls):
            return node
        omegaconf = sys.modules.get("omegaconf")  # a DictConfig cannot exist before omegaconf is imported
        if omegaconf is not None and omegaconf.OmegaConf.is_config(node):
            node = omegaconf.OmegaConf.to_container(node, resolve=True)
        knobs = [field.name for field in fields(cls)]
        if not isinstance(node, Mapping):
            raise ConfigError(
                f"{PATH}={node!r} is a {type(node).__name__}. Allowed: a mapping of {', '.join(knobs)}, "
                f"e.g. +{PATH}.beta_pos=0.9."
            )
        for key in node:
            if key not in knobs:
                raise ConfigError(f"{PATH}.{key} is not a knob{_nearest(key, knobs)}. Allowed: {', '.join(knobs)}.")
        return cls(**node)


def read(config: Any, key: str) -> Any:
    """`config[key]` of a mapping, an omegaconf node or a dataclass; None where there is none."""
    get = getattr(config, "get", None)
    return get(key) if callable(get) else getattr(config, key, None)


def _nearest(given: object, allowed: Iterable[str]) -> str:
    match = difflib.get_close_matches(str(given).lower(), list(allowed), n=1)
    return f": did you mean {match[0]!r}?" if match else ""
