"""Knobs of the `asym_grpo` estimator: the only place where a knob and its default are written.

Standard library only, so that a launcher can validate a configuration without importing torch.
"""

from __future__ import annotations

import difflib
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from recipe.asymgrpo.curves import CURVE_KNOBS, PRESETS

PATH = "algorithm.asym_grpo"
NO_SIGNAL_STEPS = 20


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
        positive_weight: `w_reinforce`: what a success gets. This and the knobs up to `pass_k`: None takes the preset's.
        focal_gamma: `f_grpo`: exponent of the focal weight.
        fade_target: `fade_dynamic`: H*, as a share of the first step's entropy.
        agrae_alpha: `a_grae`: successes weigh less while the batch's solve rate is below this.
        fade_alpha: `fade`: how fast the curves fall with p.
        fade_delta: `fade`: what failures are divided by.
        quantile_k: `qae`: a prompt is hard up to p = 1 - quantile_k.
        pass_k: `pass_at_k`: the k of pass@k.
        success_key: name of what the reward function returns beside its score (e.g. `acc`) that is compared with the
            threshold instead of the score; None: the score, the sum of a row's rewards.
        on_no_signal: `warn`, or `raise` where every advantage was 0 in `NO_SIGNAL_STEPS` steps one after the other.

    Raises:
        ConfigError: a value has the wrong type, is out of range, or is given for a knob that the preset does not have.
    """

    preset: str = "asymgrpo"
    beta_pos: float | None = None
    beta_neg: float | None = None
    success_threshold: float = 0.5
    max_abs_advantage: float | None = None
    positive_weight: float | None = None
    focal_gamma: float | None = None
    fade_target: float | None = None
    agrae_alpha: float | None = None
    fade_alpha: float | None = None
    fade_delta: float | None = None
    quantile_k: float | None = None
    pass_k: int | None = None
    success_key: str | None = None
    on_no_signal: str = "warn"

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or self.preset not in PRESETS:
            raise ConfigError(
                f"{PATH}.preset={self.preset!r} is not a preset{nearest(self.preset, PRESETS)} "
                f"Allowed: {', '.join(PRESETS)}."
            )
        self._check_knobs_are_the_presets()
        own = ", or null for the preset's own"
        self._check_number("success_threshold", "any finite number")
        if self.success_key is not None and not (isinstance(self.success_key, str) and self.success_key):
            raise ConfigError(
                f"{PATH}.success_key={self.success_key!r} is not a name. Allowed: the name of what the reward function "
                "returns beside its score, e.g. acc, or null for the score itself."
            )
        if self.on_no_signal not in ("warn", "raise"):
            raise ConfigError(
                f"{PATH}.on_no_signal={self.on_no_signal!r} is not known"
                f"{nearest(self.on_no_signal, ('warn', 'raise'))} Allowed: warn, raise."
            )
        self._check_number("max_abs_advantage", "a finite number > 0, or null for no bound", lambda x: x > 0)
        for knob in ("beta_pos", "beta_neg"):
            self._check_number(knob, f"any finite number{own}")
        for knob in ("positive_weight", "focal_gamma", "fade_alpha"):
            self._check_number(knob, f"a finite number >= 0{own}", lambda x: x >= 0)
        for knob in ("fade_delta", "fade_target"):
            self._check_number(knob, f"a finite number > 0{own}", lambda x: x > 0)
        self._check_number("agrae_alpha", f"a number > 0 and <= 1{own}", lambda x: 0 < x <= 1)
        self._check_number("quantile_k", f"a number from 0 to 1{own}", lambda x: 0 <= x <= 1)
        self._check_pass_k(f"an integer from 1 to actor_rollout_ref.rollout.n{own}")

    def _check_knobs_are_the_presets(self) -> None:
        own = PRESETS[self.preset].knobs
        for knob in CURVE_KNOBS:
            if getattr(self, knob) is not None and knob not in own:
                raise ConfigError(
                    f"{PATH}.{knob}={getattr(self, knob)!r} is not a knob of {PATH}.preset={self.preset}. "
                    f"Its knobs: {', '.join(own) or 'none'}."
                )

    def _check_number(self, knob: str, allowed: str, holds: Callable[[float], bool] = lambda x: True) -> None:
        value = getattr(self, knob)
        if value is None and getattr(type(self), knob) is None:  # its default
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
        if not holds(number):
            raise ConfigError(f"{PATH}.{knob}={number!r} is out of range. Allowed: {allowed}.")
        object.__setattr__(self, knob, number)

    def _check_pass_k(self, allowed: str) -> None:
        value = self.pass_k
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ConfigError(f"{PATH}.pass_k={value!r} is a {type(value).__name__}. Allowed: {allowed}.")
        if not 1 <= value < 2**31:  # above, a comparison with tensors overflows
            raise ConfigError(f"{PATH}.pass_k={value!r} is out of range. Allowed: {allowed}.")
        object.__setattr__(self, "pass_k", int(value))

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
        # The entropy control stands in the same section and has knobs of its own.
        return cls(**section(node, PATH, cls, "beta_pos=0.9", beside=("entropy_control",)))


def section(node: Any, path: str, kind: type, example: str, beside: Iterable[str] = ()) -> dict[str, Any]:
    """The knobs that a section of the configuration gives.

    Args:
        node: omegaconf `DictConfig` or mapping.
        path: of the section, for the errors.
        kind: dataclass with a field for every knob.
        example: a knob with a value, for the error.
        beside: keys that may stand there and are left out.

    Raises:
        ConfigError: it is not a mapping, or has an unknown key.
    """
    omegaconf = sys.modules.get("omegaconf")  # a DictConfig cannot exist before omegaconf is imported
    if omegaconf is not None and omegaconf.OmegaConf.is_config(node):
        node = omegaconf.OmegaConf.to_container(node, resolve=True)
    knobs = [field.name for field in fields(kind)]
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"{path}={node!r} is a {type(node).__name__}. Allowed: a mapping of {', '.join(knobs)}, "
            f"e.g. +{path}.{example}."
        )
    found = {key: value for key, value in node.items() if key not in beside}
    for key in found:
        if key not in knobs:
            raise ConfigError(f"{path}.{key} is not a knob{nearest(key, knobs)} Allowed: {', '.join(knobs)}.")
    return found


def read(config: Any, key: str) -> Any:
    """`config[key]` of a mapping, an omegaconf node or a dataclass; None where there is none."""
    get = getattr(config, "get", None)
    return get(key) if callable(get) else getattr(config, key, None)


def nearest(given: object, allowed: Iterable[str]) -> str:
    """The end of a sentence about a word that is not allowed: the one that may have been meant, or a full stop."""
    match = difflib.get_close_matches(str(given).lower(), list(allowed), n=1)
    return f": did you mean {match[0]!r}?" if match else "."
