"""Knobs of the entropy control: the only place where a knob and its default are written.

Standard library only, so that a launcher can validate a configuration without importing torch.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from recipe.asymgrpo.config import PATH as ALGORITHM_PATH
from recipe.asymgrpo.config import ConfigError, nearest, read, section
from recipe.asymgrpo.curves import PRESETS

PATH = f"{ALGORITHM_PATH}.entropy_control"
UNITS = ("share", "nats")


@dataclass(frozen=True)
class Way:
    """A published or own way to move a policy's entropy.

    Args:
        gain: the default of its `gain`; None where it has none.
        channels: it modulates advantages, so `modulation_cap` is its knob.
        arxiv: where it comes from; None for ours.
        doc: one line for people.
    """

    gain: float | None
    channels: bool
    arxiv: str | None
    doc: str


WAYS: dict[str, Way] = {
    "successes": Way(20.0, True, None, "our modulation of successes, its coefficient from the error"),
    "failures": Way(20.0, True, None, "the same, of failures"),
    "both": Way(20.0, True, None, "the same, of both"),
    "bonus": Way(0.005, False, "2505.22312", "Skywork-OR1's adaptive entropy bonus, as an advantage"),
    "repo": Way(2.0, False, "2603.11682", "REPO-R: advantages times 1 -+ zeta log pi"),
    "weights": Way(1.0, False, "2511.15248", "EntroPIC: a weight on likely tokens from a PI controller"),
    "filter": Way(None, False, "2604.26326", "Entrocraft: rollouts of one sign are left out"),
}


@dataclass(frozen=True)
class EntropyControlConfig:
    """What stands below `algorithm.asym_grpo.entropy_control`. Validated when made, then immutable.

    Args:
        way: how the entropy is moved, one of `WAYS`.
        floor: the level below which the way acts; None for none.
        ceiling: the level above which its mirror acts; None for none. Equal to `floor`, both are a target.
        unit: of the levels: `share` of the first step's entropy, or `nats` a token.
        final_floor: the level to which `floor` falls linearly until the last step; None: it is constant.
        final_ceiling: the same of `ceiling`.
        gain: how strongly the way answers to the error; None takes the way's own. `successes`, `failures`, `both`:
            advantage units per nat at an entropy of 0. `bonus`: what its coefficient changes by in a step. `repo`: what
            zeta is multiplied by. `weights`: the proportional gain, per nat.
        modulation_cap: of `successes`, `failures`, `both`: the largest change of an advantage, as a share of it.

    Raises:
        ConfigError: a value has the wrong type or is out of range, or two do not go together; the message names the
            full override path.
    """

    way: str = "successes"
    floor: float | None = 0.5
    ceiling: float | None = None
    unit: str = "share"
    final_floor: float | None = None
    final_ceiling: float | None = None
    gain: float | None = None
    modulation_cap: float = 0.95

    def __post_init__(self) -> None:
        for knob, allowed in (("way", tuple(WAYS)), ("unit", UNITS)):
            value = getattr(self, knob)
            if not isinstance(value, str) or value not in allowed:
                raise ConfigError(
                    f"{PATH}.{knob}={value!r} is not known{nearest(value, allowed)} Allowed: {', '.join(allowed)}."
                )
        for knob in ("floor", "ceiling", "final_floor", "final_ceiling"):
            self._check(knob, 0, math.inf, "a finite number > 0, or null for none", open_below=True)
        self._check("gain", 0, math.inf, "a finite number >= 0, or null for the way's own")
        self._check("modulation_cap", 0, 1, "a number >= 0 and < 1 (at 1 an advantage could lose its sign)")
        self._check_together()

    def _check(self, knob: str, least: float, below: float, allowed: str, open_below: bool = False) -> None:
        value = getattr(self, knob)
        if value is None and knob != "modulation_cap":
            return
        # bool is a number to Python, but `floor=true` is a mistake; NaN fails the comparison.
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ConfigError(f"{PATH}.{knob}={value!r} is a {type(value).__name__}. Allowed: {allowed}.")
        if not least <= float(value) < below or (open_below and float(value) == least):
            raise ConfigError(f"{PATH}.{knob}={value!r} is out of range. Allowed: {allowed}.")
        object.__setattr__(self, knob, float(value))

    def _check_together(self) -> None:
        if self.floor is None and self.ceiling is None:
            raise ConfigError(f"{PATH}: floor and ceiling are both null, so nothing is held. Give one, e.g. floor=0.5.")
        for level in ("floor", "ceiling"):
            start, final = getattr(self, level), getattr(self, f"final_{level}")
            if final is not None and start is None:
                raise ConfigError(f"{PATH}.final_{level}={final:g} needs {PATH}.{level}, from which it falls.")
            if final is not None and final > start:
                raise ConfigError(
                    f"{PATH}.final_{level}={final:g} is above {PATH}.{level}={start:g}. Allowed: a level that falls."
                )
        for floor, ceiling, name in (
            (self.floor, self.ceiling, ""),
            (self.last("floor"), self.last("ceiling"), "final_"),
        ):
            if floor is not None and ceiling is not None and floor > ceiling:
                raise ConfigError(
                    f"{PATH}.{name}floor={floor:g} is above {PATH}.{name}ceiling={ceiling:g}. Allowed: at most that."
                )
        if self.gain is not None and WAYS[self.way].gain is None:
            raise ConfigError(f"{PATH}.gain={self.gain:g} is not a knob of {PATH}.way={self.way}.")
        if self.way == "repo" and self.gain is not None and self.gain <= 1:
            raise ConfigError(f"{PATH}.gain={self.gain:g} is out of range. Allowed with way=repo: a factor above 1.")
        if self.modulation_cap != type(self).modulation_cap and not WAYS[self.way].channels:
            raise ConfigError(
                f"{PATH}.modulation_cap={self.modulation_cap:g} is not a knob of {PATH}.way={self.way}, but of "
                f"{', '.join(name for name, way in WAYS.items() if way.channels)}."
            )

    def last(self, level: str) -> float | None:
        """The level at the end of the run."""
        final = getattr(self, f"final_{level}")
        return getattr(self, level) if final is None else final

    @property
    def falls(self) -> bool:
        """Whether a level moves, for which the length of the run must be known."""
        return self.final_floor is not None or self.final_ceiling is not None

    @property
    def summary(self) -> str:
        """One line for people, e.g. ``successes, floor 0.6 to 0.1 nats a token``."""
        bounds = []
        for level in ("floor", "ceiling"):
            start, end = getattr(self, level), self.last(level)
            if start is not None:
                bounds.append(f"{level} {start:g}" + (f" to {end:g}" if end != start else ""))
        unit = "of the first step's entropy" if self.unit == "share" else "nats a token"
        return f"{self.way}, {', '.join(bounds)} {unit}"

    @property
    def own_gain(self) -> float:
        """The gain that holds; 0 where the way has none."""
        return self.gain if self.gain is not None else WAYS[self.way].gain or 0.0

    @classmethod
    def from_algorithm(cls, config: Any = None) -> EntropyControlConfig | None:
        """Reads `asym_grpo.entropy_control` below verl's `config.algorithm`; None where nothing is controlled.

        Args:
            config: omegaconf `DictConfig`, mapping, verl's `AlgoConfig`, or None.

        Raises:
            ConfigError: it is not a mapping, has an unknown key, or a value is impossible.
        """
        of_estimator = read(config, "asym_grpo")
        node = read(of_estimator, "entropy_control")
        if node is None:
            return node
        preset = PRESETS.get(str(read(of_estimator, "preset")))
        if preset is not None and preset.needs_entropy and read(config, "adv_estimator") == "asym_grpo":
            raise ConfigError(
                f"{PATH} and {ALGORITHM_PATH}.preset={preset.name} would both control the entropy. Leave one out."
            )
        if isinstance(node, cls):
            return node
        return cls(**section(node, PATH, cls, "floor=0.5"))
